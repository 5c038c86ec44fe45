"""Where the runs of a search are compared while they train, and which of them go on."""

from collections.abc import Sequence
from typing import Literal

TOGETHER = ("grid", "random")
"""Samplers whose points do not depend on results: all runs get as far before any is compared."""
EARLIEST = 3
"""Runs are compared from the first measurement that has one in so many of their steps behind it."""


class Rungs:
    """When runs are compared: after `first` measurements, and after `factor` times as many each time.

    Without `first`, from the first measurement after a third of the steps: before, the warm-up counts more than the settings, and
    the runs that end best can be the last ones.
    """

    def __init__(self, first: int | None, factor: int) -> None:
        self.first, self.factor = first, factor

    def see(self, count: int, step: int, steps: int) -> None:
        """Take after how many steps of all a run was measured for the `count`-th time.

        >>> rungs = Rungs(None, 2)
        >>> [step for count, step in enumerate(range(2, 15, 2), start=1) if rungs.see(count, step, 14) or count in rungs]
        [6, 12]
        """
        if self.first is None and step * EARLIEST >= steps:
            self.first = count

    def __contains__(self, count: int) -> bool:
        """Return whether runs are compared after so many measurements.

        >>> [count for count in range(1, 40) if count in Rungs(2, 3)]
        [2, 6, 18]
        """
        rung = self.first or count + 1
        while rung < count:
            rung *= self.factor
        return rung == count

    def keeps(self, value: float, others: Sequence[float], better: Literal["min", "max"]) -> bool:
        """Return whether a run continues: it is among the best of all that got as far, one in `factor` of them.

        Args:
            others: values of the runs before, after as many measurements.

        >>> [Rungs(1, 3).keeps(value, [1.0, 2.0, 3.0, 4.0, 5.0], "max") for value in (5.5, 4.5, 0.5)]
        [True, True, False]
        """
        ahead = sum(other > value if better == "max" else other < value for other in others)
        return ahead < max(1, (len(others) + 1) // self.factor)


def behind(name: str, value: float, step: int, steps: int, runs: int) -> str:
    """Return why a run has ended early."""
    return f"ended after step {step} of {steps}: {name} {value:.4g} is not among the best of the {runs} runs that got as far"
