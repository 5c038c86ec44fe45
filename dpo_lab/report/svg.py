"""Charts as SVG text: drawn by matplotlib, coloured by the page's style sheet, so that one drawing serves light and dark."""

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 340, 184
LEFT, RIGHT, TOP, BOTTOM = 44, 332, 18, 146
"""The box of the axes in the units of the drawing; the page's script finds a step from LEFT and RIGHT."""
COLOURS = {
    "#000001": "var(--soft)",
    "#000002": "var(--line)",
    "#000003": "var(--card)",
    **{f"#00001{number}": f"var(--series-{number})" for number in range(1, 9)},
}
"""What matplotlib is told, and what the page reads instead."""
SOFT, LINE, CARD, *SERIES = COLOURS
SINGLE = 5.0  # the dot of a step that stands alone, with no line to be seen by
ROOM_FOR_WORD, ROOM_FOR_NUMBER = 0.14, 0.05  # of the axis: a round narrower than its label has a shorter one, or none


def line_chart(
    steps: Sequence[float],
    series: Sequence[Sequence[float]],
    marks: Sequence[float],
    *,
    share: bool = False,
    x_label: str = "optimizer step",
) -> str:
    """Return curves over optimizer steps, or over what `x_label` says.

    Args:
        steps: the x values, ascending.
        series: one or two sequences as long as `steps`; nan is left out.
        marks: where rounds begin, the first included; lines break there. One mark is not drawn.
        share: whether the values are shares, shown from 0 to 1 whatever they are.
    """
    with own_style():
        return svg_text(_line_figure(steps, series, marks, share=share, x_label=x_label))


def x_range(steps: Sequence[float]) -> list[float]:
    """Return the steps at the left and the right edge of a chart's box."""
    return list(_limits(steps))


def histogram(series: Sequence[Sequence[int]], x_label: str) -> str:
    """Return how often each size occurs, one or two outlines over common bins at least 1 wide."""
    with own_style():
        return svg_text(_histogram_figure(series, x_label))


def tick(value: float, _position: int | None = None) -> str:
    """Return a number as an axis shows it, short and without losing a digit that an axis uses.

    >>> [tick(each) for each in (0, 0.25, -2, 1500, 25_000, 3_000_000, 0.0005, -2.75e-4)]
    ['0', '0.25', '-2', '1500', '25k', '3M', '5e-4', '-2.75e-4']
    """
    size = abs(value)
    for limit, unit, letter in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if size >= limit:
            return f"{value / unit:.4g}{letter}"
    if 0 < size < 1e-3:
        digits, exponent = f"{value:.3e}".split("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:.4g}"


def _limits(steps: Sequence[float]) -> tuple[float, float]:
    return steps[0] - 0.5, max(steps[-1], steps[0] + 1) + 0.5


@contextmanager
def own_style() -> Iterator[None]:
    """Draw with matplotlib's defaults, whatever a matplotlibrc of the user says; text stays text."""
    from matplotlib import rc_context, rcdefaults, rcParams

    with rc_context():
        rcdefaults()
        rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "report"})
        yield


def _line_figure(
    steps: Sequence[float], series: Sequence[Sequence[float]], marks: Sequence[float], *, share: bool, x_label: str
) -> "Figure":
    figure, axes = chart_axes()
    for colour, values in zip(SERIES, series, strict=False):
        for low, high in pairwise([*(marks or [-math.inf]), math.inf]):
            inside = [(x, y) for x, y in zip(steps, values, strict=True) if low <= x < high and not math.isnan(y)]
            few = "o" if len(inside) < 10 else None
            size = SINGLE if len(inside) == 1 else 2.5
            points = zip(*inside, strict=True) if inside else ((), ())
            axes.plot(*points, color=colour, linewidth=1.4, marker=few, markersize=size)
    if share:
        axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel(x_label, color=SOFT, labelpad=3)
    left, right = _limits(steps)
    axes.set_xlim(left, right)
    for number, (mark, end) in enumerate(pairwise([*marks, right]) if len(marks) > 1 else (), start=1):
        if number > 1:
            axes.axvline(mark - 0.5, color=SOFT, linewidth=0.8, dashes=(2, 3))
        room = (end - mark) / (right - left)
        label = f"round {number}" if room > ROOM_FOR_WORD else str(number) if room > ROOM_FOR_NUMBER else ""
        axes.text(mark, 1.03, label, transform=axes.get_xaxis_transform(), color=SOFT, fontsize=10)
    return figure


def _histogram_figure(series: Sequence[Sequence[int]], x_label: str) -> "Figure":
    import numpy as np

    figure, axes = chart_axes()
    every = [value for values in series for value in values]
    width = max(1, math.ceil((max(every) - min(every) + 1) / 40))
    edges = np.arange(min(every), max(every) + width + 1, width) - 0.5
    for colour, values in zip(SERIES, series, strict=False):
        counts = np.histogram(values, edges)[0]
        axes.stairs(counts, edges, color=colour, alpha=0.18, fill=True)
        axes.stairs(counts, edges, color=colour, linewidth=1.3)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(x_label, color=SOFT, labelpad=3)
    return figure


def chart_axes(width: int = WIDTH, height: int = HEIGHT) -> tuple["Figure", "Axes"]:
    """Return an empty chart of this size, drawn as all of them are."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    bottom, right = height - (HEIGHT - BOTTOM), width - (WIDTH - RIGHT)
    figure = Figure(figsize=(width / 72, height / 72), facecolor="none")
    axes = figure.add_axes((LEFT / width, 1 - bottom / height, (right - LEFT) / width, (bottom - TOP) / height), facecolor="none")
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=11, labelcolor=SOFT, pad=5)
    axes.xaxis.label.set_fontsize(11)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(tick))
    return figure, axes


def svg_text(figure: "Figure", width: int = WIDTH, height: int = HEIGHT) -> str:
    """Return the drawing for a page: text stays text in the page's font, no ids that two drawings could share but equal ones."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<svg[^>]*>", f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">', text, count=1)
    text = re.sub(r"<style.*?</style>|font-family: [^;\"]*;?| id=\"[a-z]+[a-z.]*_\d+\"", "", text, flags=re.DOTALL)
    text = re.sub(r'"[^"<>]*"', lambda found: re.sub(r"(\d+\.\d)\d+", r"\1", found[0]), text)  # in attributes: finer than a pixel
    for told, read in COLOURS.items():
        text = text.replace(told, read)
    return re.sub(r">\s+<", "><", text).strip()
