"""What a ranking looks like, whatever people say: margins, cycles, the spread of scores, and the best of k answers."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

from dpo_lab.records import Candidates

TENTHS = (10, 50, 90)


class RankingShape:
    """Counts while ranked candidates pass by; a few numbers of each prompt are kept."""

    def __init__(self) -> None:
        self.scores: list[list[float]] = []
        """Of each prompt, ascending."""
        self.triples = self.cycles = 0

    def add(self, candidates: Candidates) -> None:
        """Count one prompt."""
        self.scores.append(sorted(candidates.scores))
        for three in combinations(range(len(candidates.pairwise)), 3):
            self.triples += 1
            self.cycles += is_cycle(candidates.pairwise, *three)

    def figures(self) -> dict[str, Any]:
        """Return the figures; None where they cannot be told.

        - `cycles`: share of `triples` of answers of which each beats the next and the last beats the first, by the log-odds of
          both orders (Kendall and Babington Smith 1940); of scores alone there are none.
        - `margin`: best minus worst score of a prompt, the mean; `margin/second`: best minus second best; `margin/10`, `/50`,
          `/90`: percentiles of the first over prompts.
        - `score`, `score/10`, `/50`, `/90`: mean and percentiles of all scores. Of a ranker whose scores compare the answers to
          one prompt alone, they say how far apart answers are.
        - `best_of`: entry k - 1 is the score to be expected of the best of k answers, the mean over `best_of/prompts`, those
          with as many answers as most have.
        """
        several = [scores for scores in self.scores if len(scores) > 1]
        every = sorted(score for scores in self.scores for score in scores)
        widths = sorted(scores[-1] - scores[0] for scores in several)
        size = Counter(map(len, self.scores)).most_common(1)[0][0] if self.scores else 0
        alike = [scores for scores in self.scores if len(scores) == size]
        return {
            "cycles": self.cycles / self.triples if self.triples else None,
            "triples": self.triples,
            "margin": fmean(widths) if widths else None,
            "margin/second": fmean(scores[-1] - scores[-2] for scores in several) if several else None,
            **{f"margin/{percent}": percentile(widths, percent) for percent in TENTHS},
            "score": fmean(every) if every else None,
            **{f"score/{percent}": percentile(every, percent) for percent in TENTHS},
            "best_of": [fmean(expected_best(scores, k) for scores in alike) for k in range(1, size + 1)],
            "best_of/prompts": len(alike),
        }


def is_cycle(pairwise: Sequence[Sequence[float]], one: int, two: int, three: int) -> bool:
    """Return whether three answers beat each other in a circle; a pair without a winner breaks it.

    >>> is_cycle([[0, 1, -1], [-1, 0, 1], [1, -1, 0]], 0, 1, 2), is_cycle([[0, 1, 1], [-1, 0, 1], [-1, -1, 0]], 0, 1, 2)
    (True, False)
    """
    signs = {
        math.copysign(1, odds) if (odds := pairwise[a][b] - pairwise[b][a]) else 0
        for a, b in ((one, two), (two, three), (three, one))
    }
    return signs in ({1.0}, {-1.0})


def expected_best(ascending: Sequence[float], k: int) -> float:
    """Return the mean of the highest score over all ways to take k of the scores.

    >>> expected_best([0.0, 1.0, 2.0], 1), expected_best([0.0, 1.0, 2.0], 3)
    (1.0, 2.0)
    """
    ways = math.comb(len(ascending), k)
    return math.fsum(score * math.comb(at, k - 1) for at, score in enumerate(ascending)) / ways


def percentile(ascending: Sequence[float], percent: int) -> float | None:
    """Return the value below which so many per cent lie, between neighbours by a straight line; None of nothing.

    >>> percentile([0.0, 1.0, 2.0], 50), percentile([0.0, 1.0], 10), percentile([], 50)
    (1.0, 0.1, None)
    """
    if not ascending:
        return None
    place = percent / 100 * (len(ascending) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ascending) - 1)
    return ascending[low] + (place - low) * (ascending[high] - ascending[low])
