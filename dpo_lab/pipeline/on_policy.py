"""Pairs made by the policy itself: sample, rank, pair."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

from pydantic import Field

from dpo_lab.artifacts import Artifact
from dpo_lab.components import ConfigError, RunError, component
from dpo_lab.data.base import Data, Order, PairRequest, Prompts, RoundPairs, Truncation
from dpo_lab.figures import Figure
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.pipeline.answers import sampled
from dpo_lab.pipeline.made_pairs import made_figures, values_of
from dpo_lab.pipeline.pairs import paired, paired_with_data, read_lists, read_pairs
from dpo_lab.pipeline.ranker import ready
from dpo_lab.pipeline.ranking import ranked
from dpo_lab.ranking.base import Ranker
from dpo_lab.ranking.pairing.base import Pairing, left_out_text
from dpo_lab.report.screen import made_pairs_text, pair_notes
from dpo_lab.sampling.base import Sampler
from dpo_lab.seeding import derive


@component
class OnPolicy(Data):
    """Each round: the policy answers prompts, the ranker scores the answers, the pairing picks pairs.

    A pairing against the data's own answers asks no ranker.
    """

    makes_pairs: ClassVar[bool] = True

    prompts: Prompts
    sampler: Sampler
    ranker: Ranker
    pairing: Pairing
    max_length: Annotated[int, Field(ge=4)] = 1024
    truncation: Truncation = "keep_end_prompt"
    order: Order = "shuffled"

    @property
    def label(self) -> str:  # type: ignore[override]
        """The name of its prompts."""
        return self.prompts.label

    def bytes_needed(self, device: str) -> float:
        """Return the bytes of the sampler's or the ranker's own models: one is released before the other is loaded."""
        ranker = self.ranked_by
        return max(self.sampler.bytes_needed(device), ranker.bytes_needed(device) if ranker else 0.0)

    @property
    def holds_out(self) -> bool:
        """None: every pair is trained on."""
        return False

    @property
    def asks(self) -> Prompts:
        """The prompts."""
        return self.prompts

    @property
    def reads_answers(self) -> bool:
        """Whether the pairing is against them."""
        return self.pairing.against_data

    @property
    def makes_lists(self) -> bool:
        """Whether the pairing does."""
        return self.pairing.makes_lists

    @property
    def responses_of_item(self) -> int:
        """All answers to a prompt in a ranked list."""
        return self.sampler.num_samples if self.pairing.makes_lists else 2

    @property
    def ranked_by(self) -> Ranker | None:
        """The ranker, if the pairing asks it."""
        return None if self.pairing.against_data else self.ranker

    @property
    def round_figures(self) -> tuple[Figure, ...]:
        """The share of prompts without a pair, how different answers are, the gap of pairs, and the ranker's mean score."""
        return made_figures(self.ranked_by)

    @property
    def labels(self) -> tuple[str, ...]:
        """Both scores, and how sure the ranker is if it knows; none where nothing is ranked."""
        if self.ranked_by is None:
            return ()
        scores = ("score_chosen", "score_rejected")
        return (*scores, "preference") if self.ranker.gives_preferences else scores

    @property
    def choices(self) -> tuple[tuple[str, str], ...]:
        """The ranker, or what is paired without one."""
        return (("pairing", "spin"),) if self.ranked_by is None else (("ranker", self.ranker.label),)

    def idle(self) -> Mapping[str, str]:
        """Return the ranker where nothing is ranked, and the data's own answers where nothing is set against them."""
        if self.pairing.against_data:
            return {"ranker": "pairing=spin sets the data's own answers against drawn ones, and ranks nothing"}
        why = "drawn answers are compared with each other (pairing=spin reads the data's own)"
        return {f"prompts.{name}": why for name in self.prompts.fields_of_answers}

    def check(self) -> None:
        """Raise ConfigError if the ranker cannot judge answers to such prompts, or all answers to one are the same."""
        if self.pairing.against_data:
            return
        if why := self.pairing.unserved(self.ranker):
            raise ConfigError(why)
        if self.sampler.greedy:
            raise ConfigError(
                "sampler.temperature=0 draws the same answer to a prompt each time, so that none is better than another; "
                "use sampler.temperature=1."
            )
        if why := self.ranker.cannot_judge(self.prompts):
            raise ConfigError(
                f"ranker={why}; use prompts={self.ranker.topic}, or ranker=length (a control: the shorter answer), or a ranker "
                "of your own (CONTRIBUTING.md)."
            )

    def pairs(self, asked: PairRequest) -> RoundPairs:
        """Let the policy answer the round's prompts, rank the answers and pair them; none of the pairs is held out.

        Raises:
            RunError: if there are no pairs.
        """
        policy = cast("ModelOnDisk", asked.policy)
        prompts, seed = self.prompts.for_round(asked.prompts, asked.seed), derive(asked.seed, "round", asked.number)
        where: dict[str, Any] = {"root": asked.root, "name": asked.name, "force": asked.force}
        answers = sampled(prompts, policy, self.sampler, seed=seed, device=asked.device, **where)
        ranking, trained = None, list[Artifact]()
        if self.pairing.against_data:
            own = dict(zip((prompt.id for prompt in prompts), self.prompts.answers(prompts, asked.seed), strict=True))
            artifact = paired_with_data(answers, own, self.pairing, **where)
        else:
            _, trained = ready(self.ranker, asked.root)
            ranking = ranked(answers, self.ranker, device=asked.device, **where)
            artifact = paired(ranking, self.ranker, self.pairing, answers=answers, **where)
        pairs = read_lists(artifact) if self.pairing.makes_lists else read_pairs(artifact)
        if not pairs:
            kept = f" The policy of round {asked.number - 1} is kept: {policy.path}." if asked.number > 1 else ""
            raise RunError(f"round {asked.number}: {self._why_no_pairs(artifact, (ranking or answers).path)}{kept}")
        return RoundPairs(
            train=pairs,
            held_out=[],
            origin=made_pairs_text(answers.facts, answers.seconds, artifact.facts),
            notes=tuple(pair_notes(artifact.facts)),
            figures=values_of(artifact.facts),
            made_by={**artifact.facts, "report": ranking.facts.get("report", {}) if ranking else {}},
            artifacts=(*trained, answers, *([ranking] if ranking else []), artifact),
            drawn_by=policy.id if self.sampler.gives_own_logps else "",
        )

    def _why_no_pairs(self, artifact: Artifact, where: Path) -> str:
        """Return why there is nothing to train on, and what to change.

        Args:
            artifact: an artifact `pairs` without any.
            where: the answers are kept.
        """
        left_out = left_out_text(artifact.facts["left_out"]) or "none"
        if self.pairing.against_data:
            return (
                f"no answer of the data to {artifact.facts['prompts']} prompts stands against another one: there is nothing to "
                f"train on (left out: {left_out}; answers: {where}). Name the column of its answers (prompts.answer), or "
                "widen pairing.max_length_difference."
            )
        return (
            f"{self.ranker.label} prefers none of the answers to {artifact.facts['prompts']} prompts, so there is nothing to "
            f"train on (left out: {left_out}; answers and scores: {where}). Draw more or more different answers "
            "(sampler.num_samples, sampler.temperature), or widen pairing.min_gap, pairing.max_gap, pairing.min_agreement or "
            "pairing.max_length_difference."
        )
