"""Rankers that read no meaning: what a trained ranker has to beat, and a first try of the loop on one's own prompts."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from dpo_lab.components import component
from dpo_lab.ranking.base import Ranker, Verdict
from dpo_lab.records import Candidates
from dpo_lab.seeding import random_for


@component
class LengthRanker(Ranker):
    """Words of an answer, or minus that; answers of equal length tie.

    >>> from dpo_lab.records import Prompt
    >>> answers = Candidates(prompt=Prompt.from_text("?"), responses=("It is so.", "Yes."))
    >>> LengthRanker(prefers="shorter").rank([answers])[0].scores
    (-3.0, -1.0)
    """

    label: ClassVar[str] = "length"

    prefers: Literal["shorter", "longer"] = "shorter"
    """Which of two answers is the better one."""

    def rank(self, candidates: Sequence[Candidates]) -> list[Verdict]:
        """Return one verdict per prompt, one score per answer."""
        sign = -1.0 if self.prefers == "shorter" else 1.0
        return [Verdict(scores=tuple(sign * len(text.split()) for text in answers.responses)) for answers in candidates]


@component
class RandomRanker(Ranker):
    """A draw for each answer, from the prompt's id and the seed alone: what stands beside a prompt changes nothing."""

    label: ClassVar[str] = "random"
    scores_alone: ClassVar[bool] = False
    scores_places: ClassVar[bool] = True

    seed: int = 0
    """Another seed is another ranker."""

    def rank(self, candidates: Sequence[Candidates]) -> list[Verdict]:
        """Return one verdict per prompt, each score from 0 to 1."""
        draws = ((random_for(self.seed, "rank", candidate.prompt.id), candidate.responses) for candidate in candidates)
        return [Verdict(scores=tuple(draw.random() for _ in answers)) for draw, answers in draws]
