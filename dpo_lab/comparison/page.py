"""index.html: runs beside one another on one self-contained page, made from what their directories hold."""

import base64
import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dpo_lab import __version__
from dpo_lab.comparison.best import Standing
from dpo_lab.comparison.charts import axis_of, overlaid, parallel, scattered
from dpo_lab.comparison.curves import CURVES, lines_of
from dpo_lab.comparison.files import best_of, command_of
from dpo_lab.comparison.jobs import short_keys
from dpo_lab.comparison.runs import Run
from dpo_lab.comparison.search import search_in
from dpo_lab.comparison.shared import shared_parts
from dpo_lab.comparison.table import in_order
from dpo_lab.comparison.words import reason, state_line, verdict_lines
from dpo_lab.plain_data import as_typed
from dpo_lab.progress import clock
from dpo_lab.report.charts import IN_WORDS, KNOWN
from dpo_lab.report.figures import number
from dpo_lab.report.page import TEMPLATES, environment
from dpo_lab.run_directory import REPORT

MOST_PROMPTS, MOST_ANSWERS, MOST_CHARACTERS, COLOURS = 8, 6, 1500, 8
"""Of the samples: prompts, answers in sight and characters of each; how many configurations have their own colour."""
DRIFT = "kl/implicit"


@dataclass(frozen=True)
class Row:
    """One run in the table."""

    run: Run
    number: int
    """Of its configuration."""
    link: str
    """To its own page, from this one; empty if it has none."""
    values: tuple[tuple[str, str], ...]
    """What is shown and what it is sorted by, for each key."""
    figures: tuple[tuple[str, str, str], ...]
    """What is shown, the interval and what it is sorted by, for each figure."""
    seconds: str


def page_of(runs: Sequence[Run], found: Standing | None, *, title: str, command: str, place: Path) -> str:
    """Return the page; text of runs is escaped, the page loads nothing and runs no script but its own.

    Args:
        command: that makes these runs, empty if they are not one sweep.
        place: the directory that the page goes to, from which links lead.
    """
    groups = numbered(runs, found)
    numbers = {id(run): at for at, group in enumerate(groups) for run in group}
    ordered = in_order(runs, found.metric if found else None)
    keys = short_keys(list(dict.fromkeys(key for run in runs for key in run.values)))
    figures = shown_figures(runs, found)
    script = (TEMPLATES / "compare.js").read_text(encoding="utf-8")
    best = best_of(found)
    content = {
        "title": title,
        "states": state_line(runs, "run"),
        "verdict": verdict_lines(found) if found else ["No finished run has a figure, so nothing is compared."],
        "metric": found.metric if found else None,
        "keys": keys,
        "figures": figures,
        "rows": [_row(run, numbers[id(run)], keys, figures, place) for run in ordered],
        "legend": [(at, _name_of(group[0])) for at, group in enumerate(groups)][:COLOURS],
        "uncoloured": max(0, len(groups) - COLOURS),
        "standing": found,
        "reason": reason,
        "failed": [run for run in ordered if run.state not in ("finished", "pruned", "waiting", "not started")],
        "search": search_in(place),
        "curves": curve_charts(groups),
        "scatter": reward_and_drift(ordered, numbers, found),
        "parallel": coordinates(ordered, numbers, keys, found),
        "samples": samples_of(groups, found),
        "shared": shared_parts(runs),
        "best_command": command_of(best) if best else "",
        "command": command,
        "number": number,
        "clock": clock,
        "version": __version__,
        "script": script,
        "script_digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return environment().get_template("compare.html").render(content)


def numbered(runs: Sequence[Run], found: Standing | None) -> list[list[Run]]:
    """Return the runs by configuration: the best first, then those without the figure."""
    groups: dict[Any, list[Run]] = {
        configuration.runs[0].setting: [] for configuration in (found.configurations if found else ())
    }
    for run in runs:
        groups.setdefault(run.setting, []).append(run)
    return list(groups.values())


def _name_of(run: Run) -> str:
    short = short_keys([key for key, _ in run.setting])
    return " ".join(f"{short[key]}={as_typed(value)}" for key, value in run.setting) or "all runs"


def shown_figures(runs: Sequence[Run], found: Standing | None) -> list[tuple[str, str, str]]:
    """Return key, name and title of each figure that the table shows: the one that is compared, then the headlines."""
    named = {figure.keys[0]: figure for run in runs for figure in run.figures if figure.headline and run.value(figure.keys[0])}
    first = [(found.metric.key, found.metric.figure.name if found.metric.figure else "", found.metric.key)] if found else []
    return [*first, *((key, each.name, each.title) for key, each in named.items() if not found or key != found.metric.key)]


def _row(run: Run, configuration: int, keys: Mapping[str, str], figures: Sequence[tuple[str, str, str]], place: Path) -> Row:
    report = run.directory / REPORT if run.directory else None
    there = report is not None and report.is_file()
    cells = []
    for key, name, _ in figures:
        value, ends = run.value(key), run.interval(name) if name else None
        interval = f"{number(ends[0])} to {number(ends[1])}" if ends else ""
        cells.append(("" if value is None else number(value), interval, "" if value is None else repr(value)))
    return Row(
        run=run,
        number=configuration,
        link=quote(os.path.relpath(report.resolve(), place.resolve())) if report and there else "",
        values=tuple((as_typed(run.values.get(key, "")), as_typed(run.values.get(key, ""))) for key in keys),
        figures=tuple(cells),
        seconds="" if run.seconds is None else f"{run.seconds:.0f}",
    )


def curve_charts(groups: Sequence[Sequence[Run]]) -> list[dict[str, Any]]:
    """Return a chart for each metric that the runs logged."""
    charts = []
    for title, names in CURVES:
        name, lines = lines_of(groups, names)
        if lines:
            known = KNOWN.get(name)
            unit = known.unit if known else ""
            meaning = f"{known.title}: {known.formula}" if known else ""
            charts.append(
                {
                    "title": title,
                    "name": name,
                    "unit": IN_WORDS.get(unit, unit),
                    "meaning": meaning,
                    "svg": overlaid(lines, share=unit == "share"),
                }
            )
    return charts


def reward_and_drift(runs: Sequence[Run], numbers: Mapping[int, int], found: Standing | None) -> dict[str, str] | None:
    """Return the chart of the compared figure against the KL to the model before, or else against the drift on the data."""
    if found is None or found.metric.better is None:
        return None
    scored = [(run, value) for run in runs if (value := found.metric.of(run)) is not None]
    measured = all(run.value("kl") is not None for run, _ in scored)
    label = "KL to the model before, nats" if measured else f"|{DRIFT}| at the end of training, nats"
    drifts = [(run, value, run.value("kl") if measured else last_drift(run)) for run, value in scored]
    points = [(numbers[id(run)], drift, value) for run, value, drift in drifts if drift is not None]
    if len(points) < 2:
        return None
    return {
        "svg": scattered(points, label, better=found.metric.better),
        "x": label,
        "y": found.metric.key,
        "count": str(len(points)),
    }


def last_drift(run: Run) -> float | None:
    """Return the size of the drift on the data at the last logged step, None without one."""
    found = (row[DRIFT] for row in reversed(run.record.rows) if isinstance(row.get(DRIFT), float) and math.isfinite(row[DRIFT]))
    return next((abs(drift) for drift in found), None)


def coordinates(runs: Sequence[Run], numbers: Mapping[int, int], keys: Mapping[str, str], found: Standing | None) -> str | None:
    """Return the parallel coordinates of what was set and of the compared figure, None where nothing differs."""
    if found is None or not keys:
        return None
    shown = [run for run in runs if found.metric.of(run) is not None]
    axes = [axis_of(short, [run.values.get(key) for run in shown]) for key, short in list(keys.items())[:8]]
    axes.append(axis_of(found.metric.key, [found.metric.of(run) for run in shown]))
    if found.metric.key != "kl" and any(run.value("kl") is not None for run in shown):
        axes.append(axis_of("kl", [run.value("kl") for run in shown]))
    return parallel(axes, [numbers[id(run)] for run in shown]) if len(shown) > 1 else None


def samples_of(groups: Sequence[Sequence[Run]], found: Standing | None) -> list[dict[str, Any]]:
    """Return prompts that several runs answered, each with the answers, one run of every configuration, the best first."""
    chosen = [group[0] for group in groups]
    if found:
        chosen[: len(found.configurations)] = [configuration.runs[0] for configuration in found.configurations]
    answers: dict[str, list[dict[str, Any]]] = {}
    for at, run in enumerate(chosen):
        for sample in run.record.run.get("samples") or ():
            if isinstance(sample, dict) and {"prompt", "after"} <= set(sample):
                score = sample.get("score_after")
                label = run.name if score is None else f"{run.name}, score {number(score)}"
                answers.setdefault(str(sample["prompt"]), []).append(
                    {"number": at, "label": label, "text": _cut(sample["after"])}
                )
    return [
        {"prompt": _cut(prompt), "shown": found_answers[:MOST_ANSWERS], "more": found_answers[MOST_ANSWERS:]}
        for prompt, found_answers in answers.items()
        if len(found_answers) > 1
    ][:MOST_PROMPTS]


def _cut(text: object) -> str:
    whole = str(text)
    return whole if len(whole) <= MOST_CHARACTERS else f"{whole[:MOST_CHARACTERS]} ..."
