"""The pairing `spin`: the data's own answer to each prompt against the answers that the policy drew."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from dpo_lab.components import component
from dpo_lab.ranking.pairing.base import Pairing
from dpo_lab.records import Candidates


@component
class Spin(Pairing):
    """Self-play fine-tuning, Chen et al. 2024 (arXiv:2401.01335, algorithm 1): the data's answer is chosen, each drawn one is
    rejected.

    Nobody judges: the policy learns to tell the data's answers from its own, until it writes as the data does. The paper draws
    one answer to each prompt.
    """

    against_data: ClassVar[bool] = True

    def idle(self) -> Mapping[str, str]:
        """Return what reads scores."""
        why = "pairing=spin prefers the data's own answer, and no answer has a score"
        return dict.fromkeys(("min_gap", "max_gap", "min_agreement", "select", "keep"), why)

    def choices(self, candidates: Candidates) -> Iterator[tuple[int, int]]:
        """Yield the first answer, the data's, with each drawn one."""
        yield from ((0, drawn) for drawn in range(1, len(candidates.responses)))

    def no_preference(self, candidates: Candidates, better: int, worse: int) -> str:
        """Return that the data has no answer, an empty text if it has."""
        return "" if candidates.responses[better] else "unanswered"
