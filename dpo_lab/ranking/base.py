"""The contract of a ranker."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from dpo_lab.components import Component
from dpo_lab.records import Candidates


@dataclass(frozen=True)
class Verdict:
    """What a ranker says of the candidates of one prompt."""

    scores: tuple[float, ...]
    """One per candidate, higher is better; comparable within the prompt."""
    details: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Parts that the score is made of, per candidate, where the ranker has any."""


class Ranker(Component, ABC):
    """Scores the candidates of each prompt."""

    label: ClassVar[str]
    """Name in figures and on the end screen."""
    films_only: ClassVar[bool] = False
    """True if it can judge answers to the embedded film prompts only."""

    @abstractmethod
    def rank(self, candidates: Sequence[Candidates]) -> list[Verdict]:
        """Return one verdict per set of candidates."""

    def win_probability(self, score: float, other: float) -> float | None:
        """Return the probability that a candidate with `score` beats one with `other`; None if the ranker does not know."""
        return None
