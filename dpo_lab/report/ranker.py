"""What a ranker's rankings look like: a part of a run's page, round by round, and a separate page beside a ranking."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpo_lab.report.charts import Chart, Series
from dpo_lab.report.figures import number
from dpo_lab.report.svg import line_chart

Report = Mapping[str, Any]
ROWS = {
    "accuracy": "accuracy: share of comparisons in which the answer that people prefer has the higher score",
    "log_loss": "log-loss, nats (a coin has 0.693)",
    "first_place": "share of pairs shown that the first place wins (no bias: 0.5)",
    "first_place_nats": "log-odds for the first place, nats",
    "order_consistency": "share of pairs with the same winner in both orders",
    "cycles": "cycles: share of triples that beat each other in a circle",
    "length_correlation": "rank correlation of score and length within a prompt",
    "longer/ranker": "share of comparisons in which the ranker prefers the longer answer",
    "longer/people": "share of comparisons in which people prefer the longer answer",
    "margin": "margin: best minus worst score of a prompt",
    "margin/second": "best minus second best score",
    "score": "mean score",
    "score/10": "score, 10th percentile",
    "score/50": "score, median",
    "score/90": "score, 90th percentile",
}
"""The figures of a report in words, in the order of the page."""


ROUNDING = 1e-6
"""A figure below it is shown as 0: what float32 leaves of scores that add up to 0."""


@dataclass(frozen=True)
class RankerPart:
    """A table with a column for each report, and charts."""

    columns: list[str]
    rows: list[tuple[str, list[str]]]
    charts: list[Chart]


def ranker_part(reports: Mapping[str, Report]) -> RankerPart | None:
    """Return what the reports say side by side; None without any.

    Args:
        reports: as `ranking_report.json` has them, by what stands above their columns.
    """
    known = {name: report for name, report in reports.items() if report}
    rows = [(title, [cell(report, name) for report in known.values()]) for name, title in ROWS.items()]
    shown = [(title, cells) for title, cells in rows if any(cells)]
    return RankerPart(list(known), shown, ranker_charts(known)) if known else None


def cell(report: Report, name: str) -> str:
    """Return a figure with its interval, an empty text where it cannot be told.

    >>> cell({"accuracy": 0.75, "accuracy/low": 0.5, "accuracy/high": 0.875}, "accuracy"), cell({"cycles": None}, "cycles")
    ('0.75 (0.5 to 0.875)', '')
    >>> cell({"score": 7.8e-09}, "score")  # scores that add up to 0 within a prompt, rounded
    '0'
    """
    if (value := report.get(name)) is None:
        return ""
    low, high = report.get(f"{name}/low"), report.get(f"{name}/high")
    interval = f" ({number(float(low))} to {number(float(high))})" if low is not None and high is not None else ""
    return f"{number(0.0 if abs(value) < ROUNDING else float(value))}{interval}"


def ranker_charts(reports: Mapping[str, Report]) -> list[Chart]:
    """Return the best of k answers of the first and the last report, and how scores and margins move from report to report."""
    ends = list(dict.fromkeys([next(iter(reports)), list(reports)[-1]]))
    curves = {name: reports[name]["best_of"] for name in ends if len(reports[name].get("best_of") or ()) > 2}
    charts = [_chart("Score of the best of k answers", curves, "answers drawn")] if curves else []
    if len(reports) > 1:
        for title, names in {"Scores": ("score/50", "score/90"), "Margins": ("margin", "margin/second")}.items():
            if all(report.get(name) is not None for report in reports.values() for name in names):
                moved = {ROWS[name]: [float(report[name]) for report in reports.values()] for name in names}
                charts.append(_chart(f"{title} by round", moved, "round"))
    return charts


def _chart(title: str, curves: Mapping[str, Sequence[float]], x_label: str) -> Chart:
    """Return curves whose values stand at 1, 2, ...; of unequal lengths the shorter one."""
    length = min(map(len, curves.values()))
    values = [list(curve[:length]) for curve in curves.values()]
    svg = line_chart(list(range(1, length + 1)), values, [], x_label=x_label)
    return Chart(
        title=title,
        svg=svg,
        series=[Series(name, last=number(float(curve[-1]))) for name, curve in zip(curves, values, strict=True)],
    )
