"""Which curves and distributions a report shows, with what they mean."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from statistics import fmean, median
from typing import Any

from dpo_lab.figures import TRAINING, Figure
from dpo_lab.report.svg import LEFT, RIGHT, histogram, line_chart, x_range

CURVES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Loss", ("loss", "eval/loss")),
    ("Rewards", ("rewards/chosen", "rewards/rejected")),
    ("Margin", ("rewards/margins", "eval/margin")),
    ("Accuracy, ties half", ("rewards/accuracies_ties_half", "eval/accuracy")),
    ("Drift from the reference", ("kl/implicit",)),
    ("Log-probabilities", ("logps/chosen", "logps/rejected")),
    ("Learning rate", ("lr",)),
    ("Gradient norm", ("grad_norm",)),
    ("Tokens per second", ("time/tokens_per_second",)),
)
"""What stands in sight, with the metrics that share a chart; every other metric has a chart in the folded part."""
IN_WORDS = {
    "of the loss": "in units of the loss",
    "of the loss per weight": "loss per unit of weight",
    "beta x nats": "beta times nats",
    "share": "share of pairs",
    "1/s": "per second",
    "MiB": "GB",
    "-": "",
}
"""Units as a page says them."""
GB_PER_MIB = 2**20 / 1e9
KNOWN = {metric.name: metric for metric in TRAINING}
MAX_POINTS = 400  # more than a chart has pixels between them; a row beyond that is averaged with its neighbours


@dataclass(frozen=True)
class Series:
    """One line of a chart: its legend."""

    name: str
    meaning: str = ""
    last: str = ""
    """What is shown when no step is pointed at."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One drawing with the words around it."""

    title: str
    svg: str
    series: list[Series]
    unit: str = ""
    points: dict[str, Any] = field(default_factory=dict)
    """What the page's script reads to tell the values at a step; empty for a chart without steps."""


@dataclass(frozen=True)
class Curves:
    """The curves of a run."""

    shown: list[Chart]
    folded: list[Chart]
    note: str


def curves(rows: Sequence[dict[str, Any]], held_out: Sequence[Figure] = ()) -> Curves | None:
    """Return the curves of a run's logged steps, or None without any.

    Args:
        held_out: figures of held-out data that some rows may have; the headlines among them stand in sight.
    """
    if not rows:
        return None
    by_round = [list(group) for _, group in groupby(rows, key=lambda row: row.get("round", 1))]
    marks = [group[0]["step"] for group in by_round]
    size = math.ceil(len(rows) / MAX_POINTS)
    points = [point for group in by_round for point in _averaged(group, size)]
    names = {name: None for point in points for name in point if name not in ("step", "round")}
    grouped = {name for _, together in CURVES for name in together}
    known = KNOWN | {figure.name: figure for figure in held_out}
    main = [figure for figure in held_out if figure.headline and figure.name in names and figure.name not in grouped]
    others = [(name, (name,)) for name in names if name not in grouped and name not in {figure.name for figure in main}]
    titled = [*CURVES, *((figure.title, (figure.name,)) for figure in main)]
    shown = [_chart(title, [name for name in together if name in names], points, marks, known) for title, together in titled]
    folded = [_chart(title, together, points, marks, known) for title, together in others]
    note = f"Each point is the mean of up to {size} logged steps." if size > 1 else "Each point is one logged step."
    if len(marks) > 1:
        note += (
            " Dashed lines mark where a round begins; its reference may be another one, so curves start anew there, accuracy at "
            "about one half."
        )
    return Curves([curve for curve in shown if curve], [curve for curve in folded if curve], note)


def length_charts(lengths: dict[str, Sequence[int]]) -> list[Chart]:
    """Return the distributions of the prompts' and the responses' lengths in tokens."""
    charts = []
    for title, names in (("Prompts", ("prompt",)), ("Responses", ("chosen", "rejected"))):
        known = [name for name in names if lengths.get(name)]
        if known:
            legend = [Series(name, last=_spread(lengths[name])) for name in known]
            svg = histogram([lengths[name] for name in known], "tokens")
            charts.append(Chart(title=title, svg=svg, series=legend, unit="count"))
    return charts


def _chart(
    title: str, names: Sequence[str], points: Sequence[dict[str, Any]], marks: Sequence[int], known: Mapping[str, Figure]
) -> Chart | None:
    having = [point for point in points if any(name in point for name in names)]
    if not having:
        return None
    steps = [point["step"] for point in having]
    values = [[point.get(name, math.nan) for point in having] for name in names]
    metrics = [known[name] for name in names if name in known]
    unit = metrics[0].unit if metrics else ""
    if unit == "MiB":
        values = [[value * GB_PER_MIB for value in each] for each in values]
    return Chart(
        title=title,
        svg=line_chart(steps, values, marks, share=unit == "share"),
        series=[_series(name, each, known) for name, each in zip(names, values, strict=True)],
        unit=IN_WORDS.get(unit, unit),
        points={
            "box": [LEFT, RIGHT, *x_range(steps)],
            "steps": steps,
            "values": [[None if math.isnan(y) else float(f"{y:.4g}") for y in value] for value in values],
        },
    )


def _series(name: str, values: Sequence[float], known: Mapping[str, Figure]) -> Series:
    last = next((value for value in reversed(values) if not math.isnan(value)), math.nan)
    metric = known.get(name)
    meaning = ": ".join(text for text in (metric.title, metric.formula) if text) if metric else ""
    return Series(name, meaning, f"{float(f'{last:.4g}'):g}")


def _averaged(rows: Sequence[dict[str, Any]], size: int) -> Iterator[dict[str, float]]:
    """Yield the means of `size` rows at a time, over the rows that have a finite number; a name without one is left out."""
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        names = {name: None for row in some for name in row}
        finite = {name: [row[name] for row in some if _is_finite(row.get(name))] for name in names}
        yield {name: values[0] if name in ("step", "round") else fmean(values) for name, values in finite.items() if values}


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _spread(values: Sequence[int]) -> str:
    return f"median {median(values):g}, {min(values)} to {max(values)}"
