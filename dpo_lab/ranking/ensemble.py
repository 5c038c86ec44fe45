"""The ranker `ensemble`: several rankers as one, brought to one scale within each prompt."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any, ClassVar, Literal

import torch

from dpo_lab.components import ConfigError, component
from dpo_lab.ranking.asking import opened
from dpo_lab.ranking.base import OpenRanker, Ranker, Verdict, failed, refuse_incomplete
from dpo_lab.records import Candidates


@component
class EnsembleRanker(Ranker):
    """Combines the scores of its members; where one member fails, the ensemble fails, and the prompt is dropped."""

    label: ClassVar[str] = "ensemble"
    scores_alone: ClassVar[bool] = False
    has_members: ClassVar[bool] = True

    members: dict[str, Ranker]
    """By a name of your choice. All are open at the same time."""
    combine: Literal["z_score", "borda", "majority"] = "z_score"
    """z_score: the mean of the members' standard scores within the prompt. borda: the mean number of answers that members place
    below, ties half. majority: the number of answers that more members place below than above, ties half."""

    @property
    def topic(self) -> str:  # type: ignore[override]  # a class has it as a variable, an ensemble has that of its members
        """The topic of the first member that judges one topic only."""
        return next((member.topic for member in self.members.values() if member.topic), "")

    def content(self) -> dict[str, Any]:
        """Return the fields; rankings of a version that did not say what share of the members agrees are others."""
        return {**super().content(), "says": "agreement"}

    def check(self) -> None:
        """Raise ConfigError if there is nothing to combine; members are checked as separate parts."""
        if len(self.members) < 2:
            raise ConfigError(
                f"members={{{','.join(self.members)}}}: an ensemble has at least two members. Add one, for instance "
                "+ranker@ranker.members.mine=random"
            )

    def bytes_needed(self, device: str) -> float:
        """Return what all members take together."""
        return sum(member.bytes_needed(device) for member in self.members.values())

    @contextmanager
    def open(self, device: torch.device) -> Iterator[OpenRanker]:
        """Open all members for the block."""
        with ExitStack() as stack:
            members = {
                name: stack.enter_context(opened(member, device, f"member {name} of the ensemble"))
                for name, member in self.members.items()
            }
            yield OpenEnsemble(members, self.combine)


@dataclass(frozen=True)
class OpenEnsemble:
    """An ensemble whose members are open."""

    members: Mapping[str, OpenRanker]
    combine: str

    def rank(self, candidates: Sequence[Candidates], /) -> list[Verdict]:
        """Return one verdict per set."""
        by_member = []
        for name, member in self.members.items():
            verdicts = member.rank(candidates)
            refuse_incomplete(verdicts, candidates, f"member {name} of the ensemble")
            by_member.append(verdicts)
        return [self._combined(of_set) for of_set in zip(*by_member, strict=True)]

    def _combined(self, verdicts: Sequence[Verdict]) -> Verdict:
        if any(map(failed, verdicts)):
            return Verdict(scores=(float("nan"),) * len(verdicts[0].scores))
        scores = [verdict.scores for verdict in verdicts]
        return Verdict(scores=COMBINE[self.combine](scores), agreement=agreement(scores))


def z_score(scores: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the mean of standard scores over members; a member for whom all answers are equal says 0 of each.

    >>> z_score([(1.0, 3.0), (10.0, 10.0)])
    (-0.5, 0.5)
    """
    return _mean([_standard(of_member) for of_member in scores])


def borda(scores: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the mean over members of how many answers each places below an answer.

    >>> borda([(1.0, 2.0, 3.0), (2.0, 5.0, 2.0)])
    (0.25, 1.5, 1.25)
    """
    return _mean([_beaten(of_member) for of_member in scores])


def majority(scores: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return how many answers more members place below an answer than above it.

    >>> majority([(1.0, 2.0, 3.0), (9.0, 5.0, 2.0), (1.0, 4.0, 3.0)])
    (0.0, 2.0, 1.0)
    """
    count = range(len(scores[0]))
    votes = [
        [sum((of_member[i] > of_member[j]) - (of_member[i] < of_member[j]) for of_member in scores) for j in count] for i in count
    ]
    return tuple(sum((vote > 0) + (vote == 0) / 2 for j, vote in enumerate(row) if j != i) for i, row in enumerate(votes))


def agreement(scores: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    """Return for answers i and j the share of members that score i above j; equal scores are half a vote for either.

    >>> agreement([(1.0, 2.0), (3.0, 5.0), (4.0, 4.0), (9.0, 0.0)])
    ((0.5, 0.375), (0.625, 0.5))
    """
    count = range(len(scores[0]))
    votes = [
        [[(of_member[i] > of_member[j]) + (of_member[i] == of_member[j]) / 2 for of_member in scores] for j in count]
        for i in count
    ]
    return tuple(tuple(map(fmean, row)) for row in votes)


COMBINE: dict[str, Callable[[Sequence[Sequence[float]]], tuple[float, ...]]] = {
    "z_score": z_score,
    "borda": borda,
    "majority": majority,
}


def _standard(scores: Sequence[float]) -> list[float]:
    mean, spread = fmean(scores), pstdev(scores)
    return [(score - mean) / spread if spread else 0.0 for score in scores]


def _beaten(scores: Sequence[float]) -> list[float]:
    return [sum((score > other) + (score == other) / 2 for other in scores) - 0.5 for score in scores]


def _mean(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(map(fmean, zip(*rows, strict=True)))
