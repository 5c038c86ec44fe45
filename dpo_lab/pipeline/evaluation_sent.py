"""An evaluation of models sent to loggers: its figures as a summary, and as tables, without a prompt or an answer."""

from collections.abc import Mapping
from typing import Any

from dpo_lab.artifacts import Artifact
from dpo_lab.loggers.base import RunIdentity, RunLogger
from dpo_lab.loggers.recorder import send_recorded
from dpo_lab.progress import say

COMPARED = ("one", "other", "difference", "low", "high", "p_holm", "prompts", "winner", "sentence")
"""What a table says of a comparison of two models."""


def send_evaluation(
    report: Mapping[str, Any], made: Artifact, loggers: Mapping[str, RunLogger], config: Mapping[str, Any]
) -> list[str]:
    """Send an evaluation to the loggers that have not got it, say so, and return their keys.

    Args:
        report: as report.json has it.
        made: the artifact that holds it; loggers keep their files below its directory.
        config: of the stage.
    """
    identity = RunIdentity(name=made.path.name, id=made.id, directory=made.path, config=config, job="evaluate")
    sent = send_recorded(identity, loggers, summary_of(report), tables=tables_of(report))
    if sent:
        say(f"figures sent to {', '.join(sent)}")
    return sent


def summary_of(report: Mapping[str, Any]) -> dict[str, float]:
    """Return PART/MODEL/FIGURE for each value, and its ends where it has an interval.

    >>> figure = {"name": "kl", "values": {"mine": {"value": 2.0, "low": 1.0, "high": None}}}
    >>> summary_of({"parts": [{"name": "answers", "figures": [figure]}]})
    {'answers/mine/kl': 2.0, 'answers/mine/kl/low': 1.0}
    """
    return {
        f"{part['name']}/{model}/{figure['name']}{'' if end == 'value' else f'/{end}'}": value
        for part in report["parts"]
        for figure in part["figures"]
        for model, ends in figure["values"].items()
        for end, value in ends.items()
        if value is not None
    }


def tables_of(report: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the tables that have rows: figures, comparisons of models, and figures by category."""
    figures = [(part, figure) for part in report["parts"] for figure in part["figures"]]
    tables: dict[str, list[dict[str, Any]]] = {
        "figures": [
            {"part": part["name"], "figure": figure["name"], "model": model, **ends}
            for part, figure in figures
            for model, ends in figure["values"].items()
        ],
        "comparisons": [
            {"part": part["name"], "figure": figure["name"], **{name: comparison[name] for name in COMPARED}}
            for part, figure in figures
            for comparison in figure["comparisons"]
        ],
        "categories": [
            {"part": part["name"], "category": row["category"], "prompts": row["prompts"], "figure": name, "model": model, **ends}
            for part in report["parts"]
            for row in part["categories"]
            for name, values in row["figures"].items()
            for model, ends in values.items()
        ],
    }
    return {title: rows for title, rows in tables.items() if rows}
