"""The files of a sweep: summary.csv and summary.json with a row for each run, and best.yaml."""

import csv
import io
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from dpo_lab.comparison.best import Standing
from dpo_lab.comparison.runs import Run
from dpo_lab.comparison.table import in_order
from dpo_lab.comparison.words import verdict_lines
from dpo_lab.durable_files import write_durably
from dpo_lab.run_directory import SUMMARY

CSV, JSON, BEST, PAGE, LINKS = "summary.csv", SUMMARY, "best.yaml", "index.html", "runs"


def write_files(directory: Path, runs: Sequence[Run], found: Standing | None, command: str) -> None:
    """Write the tables of a sweep and its best run; best.yaml of an earlier call is removed where no run is best any more.

    Args:
        command: that runs the sweep.
    """
    ordered = in_order(runs, found.metric if found else None)
    rows = [row_of(run, found) for run in ordered]
    summary = {"command": command, **(about(found) if found else {"metric": None}), "runs": rows}
    write_durably(directory / JSON, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    write_durably(directory / CSV, csv_text(rows))
    link_runs(directory, runs)
    best = best_of(found)
    if found is None or best is None:
        (directory / BEST).unlink(missing_ok=True)
        return
    header = "".join(f"# {line}\n" for line in [*verdict_lines(found), f"again: {command_of(best)}"])
    content = {
        "run": str(best.directory),
        "command": command_of(best),
        "overrides": list(best.job.overrides) if best.job else [],
        "metric": found.metric.key,
        "value": found.metric.of(best),
        "winner": found.winner is not None,
    }
    write_durably(directory / BEST, header + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000))


def link_runs(directory: Path, runs: Sequence[Run]) -> None:
    """Make a link to the directory of each run of a sweep, named by what is swept; a file system without links has none."""
    place = directory / LINKS
    for run in runs:
        if run.job is None or run.directory is None or not run.directory.is_dir():
            continue
        with suppress(OSError):
            place.mkdir(exist_ok=True)
            link = place / run.name
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(run.directory.resolve(), place.resolve()), target_is_directory=True)


def best_of(found: Standing | None) -> Run | None:
    """Return the best run of the best configuration, None where nothing is best."""
    return found.best.runs[0] if found and found.best else None


def command_of(run: Run) -> str:
    """Return the command that does a run again, empty for one from Python."""
    return (run.job.command if run.job else "") or str(run.record.run.get("command") or "")


def row_of(run: Run, found: Standing | None) -> dict[str, Any]:
    """Return what is known of a run: what is swept, its figures with intervals, where it is and how it ended."""
    figures = {
        key: value
        for figure in run.figures
        for key in (*figure.keys, f"{figure.name}/low", f"{figure.name}/high")
        if (value := run.value(key)) is not None
    }
    first = {found.metric.key: found.metric.of(run)} if found else {}
    return {
        "job": run.job.number if run.job else None,
        "name": run.name,
        "state": run.state,
        "values": dict(run.values),
        "figures": {**{key: value for key, value in first.items() if value is not None}, **figures},
        "seconds": run.seconds,
        "directory": str(run.directory) if run.directory else None,
        "log": str(run.log) if run.log else None,
        "message": next(iter(run.job.message.splitlines()), "") if run.job else "",
        "command": command_of(run),
    }


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as a table; one column for each swept key and each figure."""
    plain = [name for name in ("job", "name", "state", "seconds", "directory", "log", "message") if rows]
    keys = list(dict.fromkeys(key for row in rows for key in row["values"]))
    figures = list(dict.fromkeys(key for row in rows for key in row["figures"]))
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow([*plain[:3], *keys, *figures, *plain[3:]])
    for row in rows:
        values = [row["values"].get(key) for key in keys] + [row["figures"].get(key) for key in figures]
        table.writerow([*(row[name] for name in plain[:3]), *values, *(row[name] for name in plain[3:])])
    return file.getvalue()


def about(found: Standing) -> dict[str, Any]:
    """Return how the configurations stand, as plain data."""
    return {
        "metric": {"key": found.metric.key, "better": found.metric.better},
        "verdict": verdict_lines(found),
        "winner": dict(found.winner.values) if found.winner else None,
        "configurations": [
            {
                "values": dict(configuration.values),
                "mean": configuration.mean,
                "spread": configuration.spread,
                "seeds": [run.seed for run in configuration.runs],
                "runs": [run.name for run in configuration.runs],
            }
            for configuration in found.configurations
        ],
        "best_against": [
            {
                "values": dict(each.other.values),
                "difference": each.difference.estimate.value if each.difference else None,
                "low": each.difference.estimate.low if each.difference else None,
                "high": each.difference.estimate.high if each.difference else None,
                "prompts": each.difference.estimate.prompts if each.difference else None,
                "p_prompts": each.difference.p_value if each.difference else None,
                "p_seeds": each.p_seeds,
                "p_holm": each.p_adjusted,
                "told_apart": each.told_apart,
                "more_prompts": each.more_prompts,
                "why_not_compared": each.why_none or None,
            }
            for each in found.against
        ],
    }
