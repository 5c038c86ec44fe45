"""python scripts/dashboard_pictures.py VIEW.json SOURCE PICTURE.svg: draw the panels of a dashboard from its JSON."""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from dpo_lab.start import check

check()

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "dashboard", "font.size": 8, "axes.titlesize": 9})

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpo_lab.comparison.runs import Run, runs_at
from dpo_lab.dashboard.source import call_of
from dpo_lab.plain_data import leaves

COLUMNS, WIDTH, HEIGHT = 3, 3.6, 2.3
COLOURS = ("#0b6e9e", "#c2571a", "#2f8f4e", "#9a4f96", "#b58a00", "#5566c4", "#b23a55", "#4d7f8a")


def main(view: Path, source: Path, picture: Path) -> None:
    """Draw every panel that shows numbers; the table of answers and the comparer of settings are W&B's own."""
    sections = json.loads(view.read_text(encoding="utf-8"))["spec"]["section"]["panelBankConfig"]["sections"]
    drawn = [panel for section in sections for panel in section["panels"] if panel["viewType"] in PANELS]
    runs = [run for run in runs_at([source]) if run.state == "finished"]
    rows = -(-len(drawn) // COLUMNS)
    figure = Figure(figsize=(COLUMNS * WIDTH, rows * HEIGHT), facecolor="white", layout="constrained")
    for at, panel in enumerate(drawn, start=1):
        axes = figure.add_subplot(rows, COLUMNS, at)
        axes.set_title(panel["config"].get("chartTitle", ""), loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        PANELS[panel["viewType"]](axes, panel["config"], runs)
    names = [axes_line(name, colour) for name, colour in zip([run.name for run in runs], COLOURS, strict=False)]
    figure.legend(handles=names, loc="outside lower left", ncols=len(names), frameon=False)
    figure.savefig(picture, metadata={"Date": None, "Creator": None})
    text = picture.read_text(encoding="utf-8")
    text = re.sub(r'"[^"<>]*"', lambda found: re.sub(r"(\d+\.\d)\d+", r"\1", found[0]), text)  # finer than a pixel
    picture.write_text(re.sub(r"[ \t]*\n[ \t]*", "\n", text), encoding="utf-8")
    print(f"{picture}: {len(drawn)} panels of {len(runs)} runs, {picture.stat().st_size // 1024} KB")


def axes_line(name: str, colour: str) -> Any:
    """Return an entry of the legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, label=name)


def line(axes: Axes, config: dict[str, Any], runs: list[Run]) -> None:
    """Draw figures over steps; the second figure of a panel is dashed."""
    for run, colour in zip(runs, COLOURS, strict=False):
        for name, style in zip(config["metrics"], ("-", "--"), strict=False):
            points = [(row["step"], row[name]) for row in run.record.rows if row.get(name) is not None]
            axes.plot(*zip(*points, strict=True), style, color=colour, linewidth=1)
    axes.set_xlabel(", ".join(config["metrics"]))


def scatter(axes: Axes, config: dict[str, Any], runs: list[Run]) -> None:
    """Draw a point for each run."""
    for run, colour in zip(runs, COLOURS, strict=False):
        axes.plot([value_of(run, config["xAxis"])], [value_of(run, config["yAxis"])], "o", color=colour)
    axes.set_xlabel(config["xAxis"])


def bars(axes: Axes, config: dict[str, Any], runs: list[Run]) -> None:
    """Draw bars for each run, one for each figure of the panel."""
    names = config["metrics"]
    for at, (run, colour) in enumerate(zip(runs, COLOURS, strict=False)):
        heights = [value_of(run, name) for name in names]
        places = [column + at / (len(runs) + 1) for column in range(len(names))]
        axes.bar(places, heights, width=1 / (len(runs) + 1), align="edge", color=colour)
    short = [name.removeprefix("summary_metrics.") for name in names]
    axes.set_xticks([column + 0.4 for column in range(len(names))], [each if len(names) < 3 else each[-8:] for each in short])


def parallel(axes: Axes, config: dict[str, Any], runs: list[Run]) -> None:
    """Draw a line for each run through what was set and what came of it; text is placed in its order."""
    columns = config["columns"]
    table = [[value_of(run, column["accessor"]) for column in columns] for run in runs]
    for at, column in enumerate(columns):
        values = [row[at] for row in table]
        order = sorted(set(values), key=lambda value: (isinstance(value, str), value))
        for row in table:
            low, high = order[0], order[-1]
            is_number = not isinstance(low, str) and low != high
            row[at] = (row[at] - low) / (high - low) if is_number else order.index(row[at]) / max(len(order) - 1, 1)
        title = column.get("displayName") or column["accessor"].partition(":")[2]
        axes.text(at, -0.12, f"{title} (log)" if column.get("log") else title, ha="center", va="top")
    for row, colour in zip(table, COLOURS, strict=False):
        axes.plot(row, color=colour)
    axes.set_xticks(range(len(columns)), [""] * len(columns))
    axes.set_yticks([])


def value_of(run: Run, accessor: str) -> Any:
    """Return what a run has under a name of W&B: of its summary, of its configuration or, at its end, of its history."""
    place, _, name = accessor.replace("summary_metrics.", "summary:", 1).partition(":")
    if place == "config":
        return dict(leaves(call_of(run).get("config") or run.record.config))[name.replace(".value", "", 1)]
    found = run.record.summary.get(name)
    return next((row[name] for row in reversed(run.record.rows) if name in row), 0.0) if found is None else found


PANELS = {
    "Run History Line Plot": line,
    "Scatter Plot": scatter,
    "Bar Chart": bars,
    "Parallel Coordinates Plot": parallel,
}

if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
