"""The curves of several runs over their steps: seeds of one configuration as a mean with a band."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from dpo_lab.comparison.charts import Line
from dpo_lab.comparison.runs import Run

CURVES = (
    ("Loss", ("loss",)),
    ("Margin of rewards", ("rewards/margins",)),
    ("Accuracy, ties half", ("rewards/accuracies_ties_half", "rewards/accuracies")),
    ("Drift from the reference", ("kl/implicit",)),
    ("Gradient norm", ("grad_norm",)),
)
"""Titles with the metric that each chart shows: the first one that the rows have."""
MOST_POINTS = 100


def lines_of(groups: Sequence[Sequence[Run]], names: Sequence[str]) -> tuple[str, list[Line]]:
    """Return the first metric of `names` that some run has, and a line for each configuration that has it.

    Steps are put together into at most a hundred stretches; a band goes from the lowest to the highest seed.

    Args:
        groups: the runs of each configuration, in the order of their numbers.
    """
    name = next((each for each in names if any(each in row for runs in groups for run in runs for row in run.record.rows)), "")
    last = max((row["step"] for runs in groups for run in runs for row in run.record.rows), default=0)
    size = max(1, math.ceil(last / MOST_POINTS))
    lines: list[Line] = []
    for number, runs in enumerate(groups):
        seeds = [stretches(run.record.rows, name, size) for run in runs]
        steps = sorted({step for seed in seeds for step in seed})
        values = [[seed[step] for seed in seeds if step in seed] for step in steps]
        if steps:
            low, mean, high = ([function(value) for value in values] for function in (min, fmean, max))
            lines.append((number, steps, low, mean, high))
    return name, lines


def stretches(rows: Sequence[Mapping[str, Any]], name: str, size: int) -> dict[float, float]:
    """Return the means of a metric over stretches of steps, by the middle of each stretch.

    >>> stretches([{"step": 1, "loss": 1.0}, {"step": 2, "loss": 3.0}, {"step": 3, "loss": 4.0}], "loss", 2)
    {1.5: 2.0, 3.5: 4.0}
    """
    found: dict[int, list[float]] = {}
    for row in rows:
        value = row.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found.setdefault((int(row["step"]) - 1) // size, []).append(float(value))
    return {at * size + (size + 1) / 2: fmean(values) for at, values in found.items()}
