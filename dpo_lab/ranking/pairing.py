"""Preference pairs from ranked candidates."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import Field

from dpo_lab.components import Component, component
from dpo_lab.ranking.base import Ranker
from dpo_lab.records import Candidates, PreferencePair


class Pairing(Component, ABC):
    """Which of the ranked candidates become pairs."""

    @abstractmethod
    def pairs(self, candidates: Iterable[Candidates], ranker: Ranker) -> Iterable[PreferencePair]:
        """Return pairs from candidates that carry the ranker's scores; of many candidates, a generator holds a few at a time."""


@component
class BestVsWorst(Pairing):
    """The best against the worst answer of each prompt, as the Snorkel recipe does; ties give no pair."""

    min_gap: Annotated[float, Field(ge=0)] = 0.0
    """Smallest difference of scores that counts as a preference; at 0 any difference does."""

    def pairs(self, candidates: Iterable[Candidates], ranker: Ranker) -> Iterator[PreferencePair]:
        """Yield at most one pair per prompt; equal texts and gaps of 0 or below `min_gap` are left out."""
        for row, each in enumerate(candidates, start=1):
            best, worst = each.best_and_worst
            gap = each.scores[best] - each.scores[worst]
            if gap <= 0 or gap < self.min_gap or each.responses[best] == each.responses[worst]:
                continue
            yield PreferencePair(
                prompt=each.prompt,
                chosen=each.responses[best],
                rejected=each.responses[worst],
                score_chosen=each.scores[best],
                score_rejected=each.scores[worst],
                finished=(each.has_ended(best), each.has_ended(worst)),
                drawn=(each.drawn[best], each.drawn[worst]) if each.drawn else (),
                preference=ranker.preference(each, best, worst),
                source=ranker.label,
                row=row,
            )
