"""report.html of a comparison of runs, and of an evaluation of models, each on one self-contained page."""

from collections.abc import Mapping
from typing import Any

from dpo_lab.amounts import short
from dpo_lab.report.page import environment


def comparison_page(report: Mapping[str, Any]) -> str:
    """Return the page of a report.json; text of runs is escaped, and nothing is loaded from elsewhere."""
    return environment().get_template("comparison.html").render(report=report, shown=shown_interval)


def evaluation_page(report: Mapping[str, Any]) -> str:
    """Return the page of an evaluation of models; text of models is escaped, and nothing is loaded from elsewhere."""
    return environment().get_template("evaluation.html").render(report=report, shown=shown_interval, short=short)


def shown_interval(value: float, low: float | None, high: float | None) -> str:
    """Return a value with its interval, if it has one.

    >>> shown_interval(0.957, 0.938, 0.97), shown_interval(0.5, None, None)
    ('.96 [.94, .97]', '.50')
    """
    return short(value) if low is None or high is None else f"{short(value)} [{short(low)}, {short(high)}]"
