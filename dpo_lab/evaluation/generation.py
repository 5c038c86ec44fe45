"""Evaluation by answers to held-out prompts, judged, before and after training: evaluation=generation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from pydantic import PositiveInt

from dpo_lab.components import ConfigError, RunError, component
from dpo_lab.data.base import Prompts
from dpo_lab.evaluation.answer_figures import (
    ANSWER_FIGURES,
    CONTROLLED,
    ENDED,
    OF_DIVERGENCE,
    TO_REFERENCE,
    observed_answers,
    prompts_of,
)
from dpo_lab.evaluation.base import Measure, Setting
from dpo_lab.evaluation.belief import BELIEFS, another_opinion, belief_figures, beliefs
from dpo_lab.evaluation.context import Context, Measured
from dpo_lab.evaluation.divergence import divergence_of_answers
from dpo_lab.evaluation.intervals import intervals_of, observed_by
from dpo_lab.evaluation.length_control import controlled_share
from dpo_lab.evaluation.perplexity import perplexity
from dpo_lab.evaluation.statistics import Observed, mean_of
from dpo_lab.evaluation.win_rate import Wins, wins_by_score, wins_side_by_side
from dpo_lab.figures import KL, WIN_PREVIOUS, WIN_RATE, Figure
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.progress import say
from dpo_lab.ranking.asking import verdicts_of
from dpo_lab.ranking.base import Ranker, Verdict, failed, refuse_if_all_failed, without_failed
from dpo_lab.records import Candidates, Prompt
from dpo_lab.sampling.answers import answers_to
from dpo_lab.sampling.base import Sampler
from dpo_lab.seeding import derive
from dpo_lab.tokens.build import tokenise_answers
from dpo_lab.tokens.store import TokenStore

SHARES = ("win_rate", WIN_PREVIOUS.name, ENDED.name, *BELIEFS)
OF_ANSWERS = {"kl": "kl", "kl/k1": "k1", "kl/k3": "k3"}
"""Figures by the field of `Divergence` that holds each answer's own."""


@dataclass(frozen=True)
class Answers:
    """The judged answers of one model to the held-out prompts."""

    candidates: list[Candidates]
    """With scores, where the judge gives some to an answer alone."""
    verdicts: list[Verdict]
    """Of such a judge; else empty."""
    store: TokenStore
    """The answers' token ids, without pairs; equal answers to one prompt stand there once."""
    index: list[int]
    """Where each answer stands in the store, in order."""


@component
class GenerationEvaluation(Measure):
    """Answers to held-out prompts, judged against those of the model before training."""

    prompts: Prompts
    sampler: Sampler
    judge: Ranker
    num_samples: PositiveInt = 2
    """Answers per prompt."""
    max_prompts: PositiveInt | None = None
    """At most so many of the held-out prompts; null: all."""

    @property
    def asks(self) -> Prompts:
        """The prompts."""
        return self.prompts

    def idle(self) -> Mapping[str, str]:
        """Return how many prompts and answers a round of training draws."""
        return {
            "prompts.num_prompts": "evaluation answers the held-out prompts (evaluation.max_prompts)",
            "sampler.num_samples": "evaluation draws evaluation.num_samples answers",
            **{f"prompts.{name}": "evaluation compares the answers of models" for name in self.prompts.fields_of_answers},
        }

    def check(self) -> None:
        """Raise ConfigError if the judge cannot judge answers to such prompts."""
        if why := self.judge.cannot_judge(self.prompts):
            raise ConfigError(
                f"judge={why}; use judge=same ranker=length (a control: the shorter answer), or a ranker of your own "
                "(CONTRIBUTING.md)."
            )

    def content(self) -> dict[str, Any]:
        """Return what determines the figures: not how many prompts and answers a round of training draws."""
        fields = super().content()
        fields["prompts"] = {name: value for name, value in fields["prompts"].items() if name != "num_prompts"}
        fields["sampler"] = {name: value for name, value in fields["sampler"].items() if name != "num_samples"}
        return fields

    def bytes_needed(self, device: str) -> float:
        """Return the bytes of the sampler's or the judge's own models: one is released before the other is loaded."""
        return max(self.sampler.bytes_needed(device), self.judge.bytes_needed(device))

    def held_out(self) -> list[Prompt]:
        """Return the prompts that are answered."""
        return self.prompts.held_out()[: self.max_prompts]

    def answers(self, policy: ModelOnDisk, device: torch.device, seed: int, name: str, directory: Path | None) -> Answers:
        """Return a model's judged answers; the model, and the judge's, are released when they are made.

        Args:
            name: what the progress calls it.
            directory: where answers and verdicts are kept as they are made, for a call after a kill; None keeps nothing.
        """
        draw = derive(seed, "evaluate", name)
        drawing = answers_to(
            self.held_out(),
            policy,
            self.sampler,
            device,
            draw,
            name=f"evaluate {name}",
            directory=directory,
            num_samples=self.num_samples,
        )
        drawn = [[answer.ids.tolist() for answer in candidate.drawn if answer] for candidate in drawing.candidates]
        candidates = [replace(candidate, drawn=()) for candidate in drawing.candidates]
        store, index = tokenise_answers(drawing.prompt_ids, drawn)
        places = [response for responses in index for response in responses]
        if not self.judge.scores_alone:  # it is shown them beside those of other models
            return Answers(candidates, [], store, places)
        verdicts = verdicts_of(self.judge, candidates, device, name=f"judge {name}", directory=directory)
        refuse_if_all_failed(f"judge={self.judge.label}", candidates, len(candidates), len(without_failed(candidates, verdicts)))
        scored = [
            each if failed(verdict) else replace(each, scores=verdict.scores)
            for each, verdict in zip(candidates, verdicts, strict=True)
        ]
        if lost := sum(map(failed, verdicts)):
            said = f"  judge={self.judge.label} failed for {lost} of {len(verdicts)} held-out prompts ({name}): they do not count"
            say(said)
        return Answers(scored, verdicts, store, places)

    def figures(self, setting: Setting) -> list[Figure]:
        """Return the judge's score, win rate and KL, and what else the judge says of an answer."""
        judge, ranker = self.judge, setting.ranker
        also = ", which also ranked the training pairs" if ranker == judge else ""
        score = Figure(
            name=judge.label,
            title=f"{judge.label} {judge.score}",
            row=f"{judge.label} {judge.score}{f' ({judge.score_range})' if judge.score_range else ''}",
            better="max",
            before="measured",
            interval=True,
            main=True,
            each_round=True,
            by_round=f"judge: {judge.label}",
        )
        wins = replace(WIN_RATE, row=f"win rate, judged by {judge.label}", detail=f"judged by {judge.label}{also}")
        details = (replace(detail, interval=True) for detail in judge.details)
        scores = [score] if judge.scores_alone else []
        other = another_opinion(ranker, judge, self.prompts)
        believed = belief_figures(other, judge) if other else []
        of_answers = [*details, *ANSWER_FIGURES, CONTROLLED, *OF_DIVERGENCE]
        return [*scores, wins, WIN_PREVIOUS, *believed, KL, *of_answers, *([TO_REFERENCE] if setting.last_reference else [])]

    def measure(self, context: Context) -> Measured:
        """Draw and judge answers; compare them with those of the model before once it has been measured."""
        before = context.measured_before
        name = "after" if before else "before"
        answers = self.answers(context.policy, context.device, context.seed, name, context.directory)
        figures, observed = self.scores(answers.verdicts), self.observed(answers)
        if before:
            with context.policy.lent(context.device) as policy, context.before.lent(context.device) as other:
                divergence = divergence_of_answers(policy.model, other.model, answers.store, context.layout, context.directory)
            drawn = {name: getattr(divergence, field)[answers.index].tolist() for name, field in OF_ANSWERS.items()}
            observed |= observed_by(drawn, prompts_of(answers.candidates))
            wins = self.wins(answers.candidates, before.answers, context, "before")
            earlier = context.measured_previous
            previous = self.wins(answers.candidates, earlier.answers, context, "previous") if earlier else wins
            observed |= {"win_rate": wins.observed, WIN_PREVIOUS.name: previous.observed}
            if ranker := another_opinion(context.ranker, self.judge, self.prompts):
                observed |= beliefs(ranker, answers.candidates, before.answers, wins, context.device, context.directory)
            figures |= controlled_share(wins.observed, np.array(wins.shorter_by, dtype=float)).figures(CONTROLLED.name)
            figures["kl"] = float(divergence.kl[answers.index].mean())
            tokens = observed["answers/tokens"]
            surprise = divergence.surprise[answers.index].tolist()
            figures |= perplexity("answers/perplexity", surprise, tokens.prompts, tokens.values)
            observed |= self.divergence_to_reference(answers, context)
            figures |= {"kl/standard_error": error} if (error := mean_of(observed["kl"]).standard_error) else {}
        means = {name: each.by_prompt.value for name, each in observed.items()}
        return Measured({**means, **figures, **intervals_of(observed, SHARES)}, answers.candidates, observed)

    def divergence_to_reference(self, answers: Answers, context: Context) -> dict[str, Observed]:
        """Return the divergence to the reference of the last round, where that is another model than the one before training."""
        other = context.reference
        if other is None or other.id == context.before.id:
            return {}
        with context.policy.lent(context.device) as policy, other.lent(context.device) as reference:
            models, where = (policy.model, reference.model), (context.directory, "KL to the reference")
            found = divergence_of_answers(*models, answers.store, context.layout, *where)
        return observed_by({TO_REFERENCE.name: found.kl[answers.index].tolist()}, prompts_of(answers.candidates))

    def wins(self, ours: Sequence[Candidates], theirs: Sequence[Candidates], context: Context, other: str) -> Wins:
        """Return the outcome of each answer against that of another model, called `other` in the progress."""
        if self.judge.scores_alone:
            wins = wins_by_score(ours, theirs)
        else:
            name = f"judge beside {other}"
            wins = wins_side_by_side(self.judge, ours, theirs, context.device, name=name, directory=context.directory)
        if wins is None:
            raise RunError("the judge failed for each held-out prompt, before training or after it; choose another judge.")
        return wins

    def observed(self, answers: Answers) -> dict[str, Observed]:
        """Return what is known of each answer alone: the judge's score and its details, length, ends and words."""
        found = observed_answers(answers.candidates, answers.store.response_lengths[answers.index].tolist())
        judged = [(each, said) for each, said in zip(answers.candidates, answers.verdicts, strict=False) if not failed(said)]
        if not judged:
            return found
        values = {self.judge.label: [score for _, said in judged for score in said.scores]}
        for detail in self.judge.details:
            values[detail.name] = [value for _, said in judged for value in said.details[detail.name]]
        return observed_by(values, prompts_of(each for each, _ in judged)) | found

    def heading(self, summary: Mapping[str, Any]) -> str:
        """Return what was asked about."""
        return f"held-out {self.prompts.topic or 'prompts'} ({len(self.held_out())} prompts)"

    def scores(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """Return the judge's mean score, and the means of its details, over all answers; nothing without verdicts."""
        said = [verdict for verdict in verdicts if not failed(verdict)]
        if not said:
            return {}
        means = {self.judge.label: fmean(score for verdict in said for score in verdict.scores)}
        for detail in self.judge.details:
            means[detail.name] = fmean(value for verdict in said for value in verdict.details[detail.name])
        return means
