"""Pairings that make several pairs of a prompt; with data.order=by_prompt these share a step and its computation."""

from collections.abc import Iterator
from itertools import combinations, pairwise

from dpo_lab.components import component
from dpo_lab.ranking.pairing.base import Pairing, ranks
from dpo_lab.records import Candidates


@component
class AllPairs(Pairing):
    """Each answer against each that scores lower, n(n-1)/2 pairs of n answers: InstructGPT (Ouyang et al. 2022, section 3.5)."""

    def choices(self, candidates: Candidates) -> Iterator[tuple[int, int]]:
        """Yield the pairs of the best answer first, then those of the second."""
        yield from combinations(ranks(candidates), 2)


@component
class Adjacent(Pairing):
    """Each answer against the next in rank: the n-1 pairs that all others follow from, if preferences are transitive.

    No paper: this project's own, between `best_vs_second` (one close pair) and `all_pairs`.
    """

    def choices(self, candidates: Candidates) -> Iterator[tuple[int, int]]:
        """Yield neighbours in rank, the best first."""
        yield from pairwise(ranks(candidates))
