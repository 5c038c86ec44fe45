"""The charts of a comparison: curves with bands over seeds, reward against KL, parallel coordinates; drawn by matplotlib."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpo_lab.report.svg import CARD, SERIES, SOFT, chart_axes, own_style, svg_text, tick

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE = (760, 230)
"""Width and height of the parallel coordinates."""
LOG_FROM = 20.0
"""The largest value over the smallest one from which an axis is logarithmic: learning rates are swept by factors."""
MOST_TICKS = 6
Line = tuple[int, Sequence[float], Sequence[float], Sequence[float], Sequence[float]]
"""Number of the configuration, steps, lowest, mean and highest value over its seeds."""


def colour(number: int) -> str:
    """Return the colour of a configuration by its place; those behind the eighth share one."""
    return SERIES[number] if number < len(SERIES) else SOFT


def overlaid(lines: Sequence[Line], *, share: bool = False) -> str:
    """Return curves of several configurations over the optimizer's steps, the first one on top."""
    with own_style():
        figure, axes = chart_axes()
        for number, steps, low, mean, high in reversed(lines):
            style: dict[str, Any] = {"color": colour(number), "gid": mark(number)}
            if any(bottom < top for bottom, top in zip(low, high, strict=True)):
                axes.fill_between(steps, low, high, alpha=0.16, linewidth=0, **style)
            axes.plot(steps, mean, linewidth=1.4, alpha=1.0 if number < len(SERIES) else 0.5, **style)
        if share:
            axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("optimizer step", color=SOFT, labelpad=3)
        return marked(svg_text(figure))


def scattered(points: Sequence[tuple[int, float, float]], x_label: str, *, better: str) -> str:
    """Return one figure against another, a point for each run, with the frontier of those that no other run beats in both.

    Args:
        points: number of the configuration, x (less is better), y.
        better: `max` or `min`: the direction of y.
    """
    with own_style():
        figure, axes = chart_axes()
        if len(edge := frontier([(x, y) for _, x, y in points], better)) > 1:
            axes.plot(*zip(*edge, strict=True), color=SOFT, linewidth=0.9, dashes=(3, 3))
        for number, x, y in reversed(points):
            axes.plot([x], [y], "o", color=colour(number), markersize=6, alpha=0.9, gid=mark(number))
        _free_x(axes)
        axes.set_xlabel(x_label, color=SOFT, labelpad=3)
        axes.margins(0.08)
        return marked(svg_text(figure))


def frontier(points: Sequence[tuple[float, float]], better: str) -> list[tuple[float, float]]:
    """Return the points of which no other one has less x and a better y, from left to right.

    >>> frontier([(1.0, 0.4), (2.0, 0.6), (3.0, 0.5), (0.5, 0.1)], "max")
    [(0.5, 0.1), (1.0, 0.4), (2.0, 0.6)]
    """
    sign = -1 if better == "min" else 1
    found: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -sign * point[1])):
        if not found or sign * y > sign * found[-1][1]:
            found.append((x, y))
    return found


@dataclass(frozen=True)
class Axis:
    """An axis of the parallel coordinates."""

    label: str
    ticks: tuple[tuple[float, str], ...]
    """Places from 0 to 1 with what stands there."""
    places: tuple[float | None, ...]
    """Of each run; None of one that has no value."""
    is_log: bool = False


def axis_of(label: str, values: Sequence[Any]) -> Axis:
    """Return an axis for a key or a figure: numbers by their size, by factors where they span many; other values side by side.

    >>> axis_of("lr", [1e-5, 1e-3, 1e-4]).places, axis_of("loss", ["ipo", "dpo", "ipo"]).places
    ((0.0, 1.0, 0.5), (1.0, 0.0, 1.0))
    """
    known = [value for value in values if value not in (None, "")]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
    if not numeric:
        names = sorted({str(value) for value in known})
        at = {name: index / max(len(names) - 1, 1) for index, name in enumerate(names)}
        ticks = [(at[name], name) for name in names]
        shown = ticks if len(ticks) <= 2 * MOST_TICKS else [ticks[0], ticks[-1]]
        return Axis(label, tuple(shown), tuple(None if value in (None, "") else at[str(value)] for value in values))
    low, high = min(known, default=0.0), max(known, default=1.0)
    is_log = low > 0 and high / low >= LOG_FROM

    def place(value: float) -> float:
        if low == high:
            return 0.5
        if is_log:
            return round((math.log(value) - math.log(low)) / (math.log(high) - math.log(low)), 6)
        return round((value - low) / (high - low), 6)

    distinct = sorted(set(known))
    shown_values = distinct if len(distinct) <= MOST_TICKS else [low, high]
    ticks = [(place(value), tick(float(value))) for value in shown_values]
    return Axis(label, tuple(ticks), tuple(None if value in (None, "") else place(value) for value in values), is_log)


def parallel(axes_of: Sequence[Axis], numbers: Sequence[int]) -> str:
    """Return a line for each run through what was set and what came of it.

    Args:
        numbers: of the configuration of each run.
    """
    with own_style():
        figure, axes = chart_axes(*WIDE)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.grid(visible=False)
        for at, axis in enumerate(axes_of):
            axes.axvline(at, color=SOFT, linewidth=0.8)
            for place, label in axis.ticks:
                behind = {"facecolor": CARD, "edgecolor": "none", "pad": 1.5, "alpha": 0.85}
                where: dict[str, Any] = {"va": "center", "bbox": behind, "zorder": 5, "parse_math": False}
                axes.text(at + 0.03, place, _cut(label), color=SOFT, fontsize=10, **where)
            name = f"{axis.label} (log)" if axis.is_log else axis.label
            side = "left" if at == 0 else "right" if at == len(axes_of) - 1 else "center"
            axes.text(at, 1.09, _cut(name, 22), color=SOFT, fontsize=11, ha=side, parse_math=False)
        for run in reversed(range(len(numbers))):
            line = [(at, axis.places[run]) for at, axis in enumerate(axes_of) if axis.places[run] is not None]
            number = numbers[run]
            axes.plot(*zip(*line, strict=True), color=colour(number), linewidth=1.3, alpha=0.85, gid=mark(number))
        axes.set_xlim(-0.03, len(axes_of) - 1 + 0.3)
        axes.set_ylim(-0.05, 1.05)
        axes.set_xticks([])
        axes.set_yticks([])
        return marked(svg_text(figure, *WIDE))


def mark(number: int) -> str:
    """Return what names the drawings of a configuration."""
    return f"configuration-{number}-"


def marked(svg: str) -> str:
    """Return a drawing in which the script of the page finds configurations, as `data-c`."""
    return re.sub(r' id="configuration-(\d+)-"', r' data-c="\1"', svg)


def _free_x(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))


def _cut(text: str, length: int = 14) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
