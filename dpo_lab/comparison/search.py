"""What a search has done so far: how many points, how much training it saved, and how much each key mattered."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dpo_lab.amounts import count_of

SEARCH = "search.json"


@dataclass(frozen=True, kw_only=True)
class SearchState:
    """A search, as its directory says."""

    trials: int
    """Points that were proposed."""
    complete: int
    pruned: int
    """Runs that ended early."""
    steps: int
    """Optimizer steps that were taken."""
    planned: int
    """Those that the same runs would have taken to their ends."""
    importance: Mapping[str, float] = field(default_factory=dict)
    """Share of the differences between runs that a key explains; all add up to 1. Empty with too few finished runs."""

    @property
    def saved(self) -> float:
        """The share of the steps that was saved."""
        return 1 - self.steps / self.planned if self.planned else 0.0

    @property
    def lines(self) -> list[str]:
        """What the screen says.

        >>> SearchState(trials=9, complete=3, pruned=6, steps=50, planned=100, importance={"lr": 0.8, "beta": 0.2}).lines
        ['search: 9 points, 3 to their end, 6 ended early; 50 of 100 steps, 50 % saved', 'importance: lr .80, beta .20']
        """
        steps = f"; {self.steps} of {self.planned} steps, {self.saved:.0%} saved".replace("%", " %") if self.planned else ""
        first = f"search: {count_of(self.trials, 'point')}, {self.complete} to their end, {self.pruned} ended early{steps}"
        shares = ", ".join(f"{key} {share:.2f}".replace(" 0.", " .") for key, share in self.importance.items())
        return [first, *([f"importance: {shares}"] if shares else [])]


def search_in(directory: Path) -> SearchState | None:
    """Return what the search of a directory has done, None if it is not that of a search."""
    try:
        return SearchState(**json.loads((directory / SEARCH).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
