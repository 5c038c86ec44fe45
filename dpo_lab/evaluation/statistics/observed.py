"""Numbers that were observed of answers or pairs, each with the prompt that it belongs to: the prompt is the unit."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ByPrompt:
    """The same numbers, added up for each prompt."""

    prompts: tuple[str | int, ...]
    """Each once, in the order in which they were first seen."""
    sums: Numbers
    """Shape (prompts,)."""
    counts: Numbers
    """Of what was added up, shape (prompts,)."""

    @property
    def value(self) -> float:
        """Return the mean over everything that was observed, not the mean of the prompts' means."""
        return float(self.sums.sum() / self.counts.sum())

    @property
    def residuals(self) -> Numbers:
        """Return by how much each prompt moves the mean, shape (prompts,); they add up to 0."""
        residuals: Numbers = (self.sums - self.value * self.counts) / self.counts.sum()
        return residuals


@dataclass(frozen=True)
class Observed:
    """One number per answer or pair.

    >>> tokens = Observed([30.0, 34.0, 20.0], ["a", "a", "b"])
    >>> tokens.by_prompt.prompts, tokens.by_prompt.sums.tolist(), tokens.by_prompt.value
    (('a', 'b'), [64.0, 20.0], 28.0)
    """

    values: Sequence[float] | NDArray[Any]
    prompts: Sequence[str | int] | NDArray[Any]
    """The id of each number's prompt."""
    counts: Sequence[float] | NDArray[Any] | None = None
    """What each value is a sum over, such as an answer's tokens, for a ratio of sums; None: 1 each, for a mean."""

    def __post_init__(self) -> None:
        """Raise ValueError for numbers that no mean can be taken of."""
        if not len(self.values) or len(self.values) != len(self.prompts):
            raise ValueError(
                f"{len(self.values)} numbers of {len(self.prompts)} prompts: a mean needs one prompt for each number."
            )
        if not np.isfinite(np.asarray(self.values, dtype=np.float64)).all():
            raise ValueError("a number is not finite: no mean can be taken of it.")

    @cached_property
    def by_prompt(self) -> ByPrompt:
        """Add up the numbers of each prompt."""
        places: dict[str | int, int] = {}
        at = [places.setdefault(prompt, len(places)) for prompt in self.prompts]
        sums, counts = np.zeros(len(places)), np.zeros(len(places))
        np.add.at(sums, at, np.asarray(self.values, dtype=np.float64))
        np.add.at(counts, at, 1.0 if self.counts is None else np.asarray(self.counts, dtype=np.float64))
        return ByPrompt(prompts=tuple(places), sums=sums, counts=counts)
