"""The contract of a ranker."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, ClassVar

from dpo_lab.components import Component
from dpo_lab.continuing import Keep, make_now
from dpo_lab.records import Candidates

PROMPTS_AT_A_TIME = 16  # a pairwise ranker needs minutes for them on a CPU: what a kill may cost


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
        """Return one verdict per set of candidates, each from its own set alone.

        Callers rank a few prompts at a time (`rank_kept`), so a verdict must not depend on its neighbours or on its place:
        a random control draws from the prompt's id, an ensemble brings its members to one scale within the prompt.
        """

    def win_probability(self, score: float, other: float) -> float | None:
        """Return the probability that a candidate with `score` beats one with `other`; None if the ranker does not know."""
        return None


def rank_kept(ranker: Ranker, candidates: Sequence[Candidates], keep: Keep = make_now) -> list[Verdict]:
    """Return a ranker's verdicts; some prompts at a time go through `keep`, with their positions as rows."""
    verdicts: list[Verdict] = []
    for start in range(0, len(candidates), PROMPTS_AT_A_TIME):
        some = candidates[start : start + PROMPTS_AT_A_TIME]
        verdicts += map(_verdict, keep(range(start, start + len(some)), partial(_plain_verdicts, ranker, some)))
    return verdicts


def _plain_verdicts(ranker: Ranker, candidates: Sequence[Candidates]) -> list[dict[str, Any]]:
    return [asdict(verdict) for verdict in ranker.rank(candidates)]


def _verdict(plain: dict[str, Any]) -> Verdict:
    details = {name: tuple(values) for name, values in plain["details"].items()}
    return Verdict(scores=tuple(plain["scores"]), details=details)
