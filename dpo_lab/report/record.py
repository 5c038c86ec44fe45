"""What a run's directory says: its files read into plain data, and what could not be read."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lab.run_directory import CONFIG, METRICS, RUN, SCREEN, SUMMARY, RunDirectory

WITHOUT = {
    SUMMARY: "no figures: the run has not finished, or was told to keep none",
    RUN: "no command, differences from the defaults, samples, lengths, lineage or environment",
    CONFIG: "no configuration",
    METRICS: "no curves",
    SCREEN: "no end screen",
}
"""The files a report is made from, and what it lacks without each."""


@dataclass(frozen=True)
class RunRecord:
    """The contents of a run's directory; empty where a file is absent."""

    name: str
    summary: dict[str, Any]
    run: dict[str, Any]
    """run.json: name, tags, command, differences, environment, lineage, lengths, rounds, samples, answers."""
    config: dict[str, Any]
    rows: list[dict[str, Any]]
    """metrics.jsonl: one row per logged optimizer step."""
    screen: str
    absent: tuple[str, ...]
    """What could not be read, and what the report lacks for it."""


def read_record(directory: Path) -> RunRecord:
    """Return what a run's directory holds; a file that is absent or cut off is noted, never an error."""
    absent: list[str] = []
    run = RunDirectory(directory)
    texts = {name: _text(run, name, absent) for name in WITHOUT}
    objects = {name: _object(name, texts[name], absent) for name in (SUMMARY, RUN, CONFIG)}
    return RunRecord(
        name=str(objects[RUN].get("name") or directory.resolve().name),
        summary=objects[SUMMARY],
        run=objects[RUN],
        config=objects[CONFIG],
        rows=_rows(texts[METRICS], absent),
        screen=texts[SCREEN],
        absent=tuple(absent),
    )


def _text(run: RunDirectory, name: str, absent: list[str]) -> str:
    try:
        return run.text(name)
    except OSError as error:
        reason = "is absent" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        absent.append(f"{name} {reason}: {WITHOUT[name]}")
        return ""


def _object(name: str, text: str, absent: list[str]) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        absent.append(f"{name} is not JSON ({error}): {WITHOUT[name]}")
        return {}
    if isinstance(found, dict):
        return found
    absent.append(f"{name} holds a {type(found).__name__} where an object belongs: {WITHOUT[name]}")
    return {}


def _rows(text: str, absent: list[str]) -> list[dict[str, Any]]:
    rows, unreadable = [], 0
    for line in text.splitlines():
        try:
            row = json.loads(line)
            rows.append({**row, "step": int(row["step"])})
        except (ValueError, TypeError, KeyError):
            unreadable += 1
    if unreadable:
        absent.append(f"{METRICS} has {unreadable} of {len(rows) + unreadable} lines that are not the row of a step; left out")
    return rows
