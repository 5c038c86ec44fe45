"""Which panels a dashboard has: from the table of figures, and only of names that the runs recorded."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dpo_lab.dashboard.source import Setting, Source
from dpo_lab.figures import BETTER, has_rounds
from dpo_lab.report.charts import CURVES

SAMPLES = "samples"
"""The table that the logger sends."""
LENGTHS = ("Lengths of responses", ("lengths/chosen", "lengths/rejected"))
DRIFT = "kl/implicit"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel, in words of ours."""

    view: Literal["line", "scatter", "parallel", "bars", "table", "settings"]
    title: str
    metrics: tuple[str, ...] = ()
    """Names in the history of a run (line), else in its summary; of a scatter x, then y."""
    settings: tuple[Setting, ...] = ()
    minimised: tuple[str, ...] = ()
    """Of the metrics those that are better when they fall."""


@dataclass(frozen=True)
class Section:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


def sections_of(source: Source) -> list[Section]:
    """Return what a dashboard shows of what was recorded; a section without panels is left out."""
    found = {
        "What came of it": list(outcomes(source)),
        "Round by round": list(rounds(source)) if source.kind == "rounds" else [],
        "Reward against drift, and what was set": list(trade_offs(source)),
        "While training": list(curves(source)),
        "Answers": list(answers(source)),
    }
    return [Section(title, tuple(panels)) for title, panels in found.items() if panels]


def outcomes(source: Source) -> Iterator[Panel]:
    """Yield a panel of bars for each figure that run.json names: scores, win rate, KL, lengths."""
    for figure in source.figures:
        if figure.keys[0] in source.summary:
            keys = [key for key in (figure.keys[0], f"{figure.name}/before") if key in source.summary]
            yield Panel(view="bars", title=figure.title, metrics=tuple(keys))


def rounds(source: Source) -> Iterator[Panel]:
    """Yield a panel of bars for each figure that the summary has round by round."""
    for figure in source.figures:
        numbers = has_rounds(source.summary, figure.name)
        if len(numbers) > 1:
            names = tuple(f"{figure.name}/round_{number}" for number in numbers)
            yield Panel(view="bars", title=f"{figure.title}, by round", metrics=names)


def trade_offs(source: Source) -> Iterator[Panel]:
    """Yield the compared figure against the KL, and the parallel coordinates of what was set and what came of it."""
    if source.metric is None:
        return
    key, drift = source.metric.key, "kl" if "kl" in source.summary else DRIFT
    known = drift == "kl" or drift in source.history
    minimised = (key,) if source.metric.better == "min" else ()
    if known and key != drift:
        yield Panel(view="scatter", title=f"{key} against {drift}", metrics=(drift, key))
    ends = (key, drift) if known and key != drift else (key,)
    yield Panel(
        view="parallel", title="What was set, and what came of it", metrics=ends, settings=source.settings, minimised=minimised
    )
    if source.kind == "sweep":
        yield Panel(view="settings", title="What differs between runs")


def curves(source: Source) -> Iterator[Panel]:
    """Yield the curves of the run's own page, margins and accuracies first."""
    history = source.history
    first = sorted((*CURVES, LENGTHS), key=lambda curve: curve[0] not in ("Margin", "Accuracy, ties half", "Loss"))
    for title, names in first:
        if there := tuple(name for name in names if name in history):
            yield Panel(view="line", title=title, metrics=there, minimised=tuple(n for n in there if BETTER.get(n) == "min"))


def answers(source: Source) -> Iterator[Panel]:
    """Yield the table of answers, if it was sent."""
    if source.has_samples:
        yield Panel(view="table", title="Answers before and after", metrics=(SAMPLES,))
