"""Evaluation on held-out prompts: answers before and after, judged; win rate; KL to the model before."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import torch
from pydantic import PositiveInt

from dpo_lab.components import ConfigError, component
from dpo_lab.continuing import kept_part
from dpo_lab.data.base import Prompts
from dpo_lab.evaluation.base import Evaluation
from dpo_lab.evaluation.divergence import divergence
from dpo_lab.evaluation.statistics import wilson
from dpo_lab.layouts.base import Layout
from dpo_lab.models.load import Loaded, ModelOnDisk, evaluating
from dpo_lab.ranking.base import Ranker, Verdict, verdicts_of
from dpo_lab.records import Candidates, Prompt
from dpo_lab.sampling.answers import answers_to
from dpo_lab.sampling.base import Sampler
from dpo_lab.scoring.fitting import fitted, made_ready
from dpo_lab.seeding import derive
from dpo_lab.tokens.build import tokenise_answers
from dpo_lab.tokens.store import TokenStore


@dataclass(frozen=True)
class Answers:
    """The judged answers of one model to the held-out prompts."""

    candidates: list[Candidates]
    """With scores."""
    verdicts: list[Verdict]
    store: TokenStore
    """The answers' token ids, without pairs; equal answers to one prompt stand there once."""
    index: list[int]
    """Where each answer stands in the store, in order."""


@component
class GenerationEvaluation(Evaluation):
    """Answers to held-out prompts, judged against those of the model before training."""

    on_pairs: ClassVar[bool] = False

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

    def answers(self, policy: ModelOnDisk, device: torch.device, seed: int, name: str, directory: Path) -> Answers:
        """Return a model's judged answers; the model, and the judge's, are released when they are made.

        Args:
            name: what the progress calls it.
            directory: where answers and verdicts are kept as they are made, for a call after a kill.
        """
        draw = derive(seed, "evaluate", name)
        made = answers_to(
            self.held_out(),
            policy,
            self.sampler,
            device,
            draw,
            name=f"evaluate {name}",
            directory=directory,
            num_samples=self.num_samples,
        )
        drawn = [[answer.ids.tolist() for answer in each.drawn] for each in made.candidates]
        candidates = [replace(each, drawn=()) for each in made.candidates]
        verdicts = verdicts_of(self.judge, candidates, device, name=f"judge {name}", directory=directory)
        scored = [replace(each, scores=verdict.scores) for each, verdict in zip(candidates, verdicts, strict=True)]
        store, index = tokenise_answers(made.prompt_ids, drawn)
        return Answers(scored, verdicts, store, [response for each in index for response in each])

    def figures(self, answers: Answers) -> dict[str, float]:
        """Return the judge's mean score, and the means of its parts, over all answers."""
        means = {"score": fmean(score for verdict in answers.verdicts for score in verdict.scores)}
        for detail in answers.verdicts[0].details:
            means[detail] = fmean(value for verdict in answers.verdicts for value in verdict.details[detail])
        return means

    def comparison(
        self,
        policy: Loaded,
        before: Loaded,
        answers: Answers,
        answers_before: Sequence[Candidates],
        layout: Layout,
        directory: Path,
    ) -> dict[str, float]:
        """Return win rate against the model before, with its Wilson 95 % interval, and KL to it.

        Args:
            directory: where divergences are kept as they are computed, for a call after a kill.
        """
        win_rate = share_of_wins(answers.candidates, answers_before)
        low, high = wilson(win_rate, sum(len(each.scores) for each in answers.candidates))
        fit = fitted(policy.model, layout, answers.store)
        other = made_ready(before.model, fit, answers.store)
        responses = answers.store.num_responses
        with evaluating(policy.model), evaluating(other), kept_part("KL", responses, directory, "responses") as keep:
            kl = divergence(policy.model, other, answers.store, fit, keep)
        return {"win_rate": win_rate, "win_rate/low": low, "win_rate/high": high, "kl": float(kl[answers.index].mean())}


def share_of_wins(ours: Sequence[Candidates], theirs: Sequence[Candidates]) -> float:
    """Return the share of answers that score above the other model's to the same prompt; a tie counts half.

    >>> prompt = Prompt.from_text("?")
    >>> one = [Candidates(prompt=prompt, responses=("a", "b"), scores=(1.0, 0.5))]
    >>> two = [Candidates(prompt=prompt, responses=("c", "d"), scores=(0.0, 0.5))]
    >>> share_of_wins(one, two)
    0.75
    """
    outcomes = [
        (score > other) + 0.5 * (score == other)
        for mine, other_side in zip(ours, theirs, strict=True)
        for score, other in zip(mine.scores, other_side.scores, strict=True)
    ]
    return fmean(outcomes)
