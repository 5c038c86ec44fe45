"""Some pairs of a round by how hard they are: a heap of those that are kept, whatever number goes past it."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from statistics import fmean
from typing import Literal

from dpo_lab.components import RunError
from dpo_lab.records import PreferencePair

Select = Literal["hardest", "easiest", "implicit"]
"""hardest: the smallest differences of scores. easiest: the largest (Gao et al. 2025, arXiv:2502.09650, train on easy pairs).
implicit: those of which the policy that drew the answers is most wrong: its mean log-probability per token of the chosen answer
minus that of the rejected one is smallest (Qi et al. 2025, arXiv:2508.04149, take the smallest gaps of DPO's implicit reward)."""


def selected(pairs: Iterable[PreferencePair], select: Select, keep: int, left_out: Counter[str]) -> Iterator[PreferencePair]:
    """Yield at most `keep` pairs, in their order; of equally hard ones the first. At most `keep` are held.

    Args:
        left_out: how many are not selected is added there.

    Raises:
        RunError: `implicit` of a pair whose answers were not drawn here, so that no log-probabilities are known.
    """
    heap: list[tuple[float, int, PreferencePair]] = []
    for at, pair in enumerate(pairs):
        entry = (-hardness(pair, select), -at, pair)  # the smallest entry is the first to go
        if len(heap) < keep:
            heapq.heappush(heap, entry)
        else:
            left_out["not_selected"] += 1
            heapq.heappushpop(heap, entry)
    yield from (pair for _, _, pair in sorted(heap, key=lambda entry: -entry[1]))


def hardness(pair: PreferencePair, select: Select) -> float:
    """Return the number whose smallest values are selected."""
    if select == "implicit":
        drawn = [answer for answer in pair.drawn if answer]
        if len(drawn) < 2:
            raise RunError(
                "pairing.select=implicit reads the log-probabilities of drawn answers, and these answers were made elsewhere; "
                "use pairing.select=hardest or pairing.select=easiest."
            )
        chosen, rejected = (fmean(answer.logps) if answer.logps else 0.0 for answer in drawn)
        return chosen - rejected
    gap = (pair.score_chosen or 0.0) - (pair.score_rejected or 0.0)
    return gap if select == "hardest" else -gap
