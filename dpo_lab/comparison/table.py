"""The tables of a sweep on the screen: swept keys, the figure, its mean and spread over seeds, and where each run is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpo_lab.comparison.best import Standing
from dpo_lab.comparison.jobs import short_keys
from dpo_lab.comparison.metric import Metric
from dpo_lab.comparison.runs import Run
from dpo_lab.folding import room
from dpo_lab.plain_data import as_typed

ROWS = 20  # of a table: a sweep of a hundred stays readable
WIDEST = 28  # characters of a value


def tables(runs: Sequence[Run], found: Standing | None) -> list[str]:
    """Return the table of configurations where there are several seeds, and the table of runs, the best first."""
    lines: list[str] = []
    if found and found.several_seeds:
        lines += configurations_table(found)
    return [*lines, *runs_table(runs, found.metric if found else None)]


def configurations_table(found: Standing) -> list[str]:
    """Return means and spreads over seeds."""
    short = short_keys(list(found.configurations[0].values))
    head = [*short.values(), f"mean {found.metric.key}", "spread", "seeds"]
    rows = [
        [
            *(_cell(configuration.values[key]) for key in short),
            found.metric.text(configuration.mean),
            "-" if configuration.spread is None else f"{configuration.spread:.2g}",
            ",".join(sorted(run.seed for run in configuration.runs)),
        ]
        for configuration in found.configurations
    ]
    return aligned(f"by {found.metric.key}, {found.metric.direction}", head, rows)


def runs_table(runs: Sequence[Run], metric: Metric | None) -> list[str]:
    """Return every run, the best first; those without the figure last, in the order of the sweep."""
    ordered = in_order(runs, metric)
    short = short_keys(list(dict.fromkeys(key for run in runs for key in run.values)))
    head = ["job" if any(run.job for run in runs) else "run", *short.values()]
    head += [*([metric.key, "95 %"] if metric else []), "state", "seconds", "directory"]
    rows = []
    for run in ordered:
        seconds = run.seconds
        measured = [metric.text(metric.of(run)), metric.interval_text(run)] if metric else []
        rows.append(
            [
                str(run.job.number) if run.job else run.name,
                *(_cell(run.values.get(key, "")) for key in short),
                *measured,
                run.state,
                "-" if seconds is None else f"{seconds:.0f}",
                str(run.directory) if run.directory and run.state != "not started" else "-",
            ]
        )
    title = "" if metric is None else f"runs by {metric.key}, {metric.direction}"
    return aligned(title or "runs", head, rows)


def in_order(runs: Sequence[Run], metric: Metric | None) -> list[Run]:
    """Return runs with the best first; those without the figure last, in the order in which they were given."""

    def place(run: Run) -> tuple[bool, float]:
        value = metric.of(run) if metric else None
        return (value is None, metric.rank(value) if metric and value is not None else 0.0)

    return sorted(runs, key=place)


def failure_lines(runs: Sequence[Run], sweep: Path) -> list[str]:
    """Return each run that did not finish, why, and where its log is."""
    lines = []
    broken = [run for run in runs if run.state not in ("finished", "pruned", "waiting", "not started")]
    for run in broken[:ROWS]:
        why = run.job.message.splitlines()[0] if run.job and run.job.message else WHY.get(run.state, run.state)
        lines += [f"{run.state}: {run.name}: {why}", *([f"  log {run.log}"] if run.log else [])]
    if len(broken) > ROWS:
        lines.append(f"{len(broken) - ROWS} more are in {sweep / 'summary.csv'}")
    return lines


WHY = {
    "killed": "its process ended without a word; out of memory, or a kill",
    "stopped": "it was stopped by a signal",
    "running": "its process runs still",
}


def aligned(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table with a title; of many rows the first ones.

    >>> aligned("runs", ["beta", "gold"], [["0.1", ".4"]])
    ['runs', '  beta  gold', '  0.1   .4']
    """
    more = [f"  {len(rows) - ROWS} more are in summary.csv"] if len(rows) > ROWS else []
    return [title, *_rows(head, rows[:ROWS], room()), *more]


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]], columns: int | None) -> list[str]:
    """Return rows in columns; what is too wide for a terminal has the last column below each row, or no columns at all."""
    whole = _in_columns([head, *rows])
    if columns is None or max(map(len, whole)) <= columns:
        return whole
    short = _in_columns([head[:-1], *(row[:-1] for row in rows)])
    if max(map(len, short)) <= columns:
        below = ["", *("" if row[-1] == "-" else f"      {row[-1]}" for row in rows)]
        return [line for pair in zip(short, below, strict=True) for line in pair if line]
    return [line for row in rows for line in _by_name(head, row, columns)]


def _in_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _by_name(head: Sequence[str], row: Sequence[str], columns: int) -> list[str]:
    """Return one row as names with values, as many to a line as fit.

    >>> _by_name(["job", "beta", "gold"], ["1", "0.1", ".4"], 19)
    ['  job 1  beta 0.1', '    gold .4']
    """
    lines = ["  "]
    for piece in (f"{name} {cell}" for name, cell in zip(head, row, strict=True)):
        if lines[-1].strip() and len(lines[-1]) + len(piece) > columns:
            lines.append("    ")
        lines[-1] += f"{piece}  "
    return [line.rstrip() for line in lines]


def _cell(value: Any) -> str:
    text = " ".join(as_typed(value).split())
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}~"
