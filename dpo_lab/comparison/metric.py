"""The figure by which runs are compared: its key in summary.json, its direction, and how a value of it is written."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpo_lab.amounts import short
from dpo_lab.figures import Better, Figure

if TYPE_CHECKING:
    from dpo_lab.comparison.runs import Run


@dataclass(frozen=True)
class Metric:
    """A figure of summary.json."""

    key: str
    figure: Figure | None = None
    """What the runs say of it; None if they name no such figure."""

    @property
    def better(self) -> Better | None:
        """Whether it gets better by growing or by falling; None: neither, or not known."""
        return self.figure.better if self.figure else None

    @property
    def has_observations(self) -> bool:
        """Return whether it is the mean of what was observed of the last policy, not of a round or an end of an interval."""
        return self.figure is not None and self.key == self.figure.keys[0]

    @property
    def digits(self) -> int:
        """Behind the point: one more than the end screen has, because runs of a sweep are near each other."""
        return (self.figure.digits if self.figure else 2) + 1

    @property
    def direction(self) -> str:
        """In words."""
        return {"max": "higher is better", "min": "lower is better", None: "neither direction is better"}[self.better]

    def of(self, run: "Run") -> float | None:
        """Return its value of a finished run."""
        return run.value(self.key)

    def rank(self, value: float) -> float:
        """Return what sorts better values first; without a direction the higher ones."""
        return value if self.better == "min" else -value

    def text(self, value: float | None) -> str:
        """Return a value as a table shows it.

        >>> Metric("gold/after").text(0.4258), Metric("kl").text(None)
        ('.426', '-')
        """
        if value is None:
            return "-"
        return short(value, self.digits) if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.3g}"

    def interval_text(self, run: "Run") -> str:
        """Return the ends of its 95 % interval, empty without one."""
        ends = run.interval(self.figure.name) if self.figure and self.has_observations else None
        return f"[{self.text(ends[0])}, {self.text(ends[1])}]" if ends else ""


def metric_of(runs: "Sequence[Run]", asked: str = "") -> Metric | None:
    """Return the figure by which runs are compared, None if no finished run has it.

    Args:
        runs: of which the finished ones say which figures they have.
        asked: the key that was asked for; empty: the one by which the first run of a sweep was compared, or the main one.
    """
    finished = [run for run in runs if run.record.summary]
    if not asked:
        asked = next((run.job.figure[0] for run in runs if run.job and run.job.figure), "")
    for run in finished:
        figures = sorted(run.figures, key=lambda figure: (not figure.main, not figure.headline))
        keys = {figure.keys[0]: figure for figure in figures}
        if asked:
            figure = keys.get(asked) or next((each for each in figures if asked in (each.name, *each.keys)), None)
            of_round = next((each for each in figures if asked.startswith(f"{each.name}/round_")), None)
            key = figure.keys[0] if figure and asked == figure.name else asked
            if _is_number(run.record.summary.get(key)):
                return Metric(key, figure or of_round)
        elif key := next((key for key in keys if _is_number(run.record.summary.get(key))), ""):
            return Metric(key, keys[key])
    return Metric(asked) if asked and any(run.value(asked) is not None for run in runs) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
