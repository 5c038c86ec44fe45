"""What an evaluation of models writes: report.json, report.html, verdicts.jsonl; and the lines of the screen."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpo_lab.artifacts import write_durably
from dpo_lab.evaluation.context import Measured
from dpo_lab.pipeline.compared_models import ComparedFigure, by_category, compared_figures, left_out_line, verdict_lines
from dpo_lab.pipeline.compared_runs import REPORT_JSON, VERDICTS
from dpo_lab.pipeline.evaluated_models import Evaluated
from dpo_lab.pipeline.measuring import OfPart
from dpo_lab.records import write_jsonl
from dpo_lab.report.comparison_page import evaluation_page, shown_interval
from dpo_lab.run_directory import REPORT

MAX_SAMPLES, MAX_CHARACTERS = 20, 2000
"""Prompts whose answers the report shows, and how much of each answer."""


def report_of(found: Sequence[OfPart], models: Sequence[Evaluated], against: str | None, category: str | None) -> dict[str, Any]:
    """Return what report.json holds."""
    return {
        "models": [
            {
                "name": model.name,
                "path": model.path,
                "id": model.policy.id,
                "before": model.before.path if model.before else None,
            }
            for model in models
        ],
        "against": against,
        "category": category,
        "parts": [_part_record(evaluated, compared_figures(evaluated, against)) for evaluated in found],
    }


def _part_record(found: OfPart, figures: Sequence[ComparedFigure]) -> dict[str, Any]:
    return {
        "name": found.part.name,
        "title": found.part.title,
        "note": _note(found),
        "measurements": {name: str(made.path) for name, made in found.made.items()},
        "figures": [figure.record() for figure in figures],
        "categories": by_category(found.part.categories, found.measured, figures),
        "notes": left_out_line([figure for figure in figures if figure.figure.headline]),
        "samples": samples_of(found.measured),
    }


def _note(found: OfPart) -> str:
    """Return why the figures of a part cannot tell, of the first model of which the measure says so."""
    notes = (found.part.measure.note(each.figures) for each in found.measured.values() if each.figures)
    return next((note for note in notes if note), "")


def samples_of(measured: Mapping[str, Measured]) -> list[dict[str, Any]]:
    """Return the first answer of each model to the first prompts that all of them answered."""
    answers = {name: {answer.prompt.id: answer for answer in found.answers} for name, found in measured.items() if found.answers}
    if not answers:
        return []
    first, *others = answers.values()
    shared = [each for each in first.values() if all(each.prompt.id in other for other in others)][:MAX_SAMPLES]
    return [
        {
            "prompt": each.prompt.text[:MAX_CHARACTERS],
            "answers": {
                name: {
                    "text": of_model[each.prompt.id].responses[0][:MAX_CHARACTERS],
                    "score": of_model[each.prompt.id].scores[0] if of_model[each.prompt.id].scores else None,
                }
                for name, of_model in answers.items()
            },
        }
        for each in shared
    ]


def write_evaluation(directory: Path, report: Mapping[str, Any], found: Sequence[OfPart]) -> None:
    """Write the report as JSON and as a page, and a line per part, prompt and figure."""
    lines = (
        line
        for evaluated in found
        for figure in evaluated.figures
        for line in verdict_lines(evaluated.part.name, figure, evaluated.measured)
    )
    write_report(directory, report, lines)


def write_report(directory: Path, report: Mapping[str, Any], lines: Iterable[Mapping[str, Any]]) -> None:
    """Write a report as JSON and as a page, and the verdicts on single prompts."""
    write_jsonl(directory / VERDICTS, map(dict, lines))
    write_durably(directory / REPORT_JSON, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    write_durably(directory / REPORT, evaluation_page(report))


def screen_lines(report: Mapping[str, Any]) -> list[str]:
    """Return what the screen shows: the headline figures of every model on every part, and what compares them."""
    width = max(len(model["name"]) for model in report["models"])
    lines = []
    for part in report["parts"]:
        lines.append(part["title"])
        for figure in part["figures"]:
            if not figure["headline"]:
                continue
            lines.append(f"  {figure['title']}")
            lines += [f"    {name:{width}}  {shown_interval(**ends)}" for name, ends in figure["values"].items()]
            lines += [f"    {comparison['sentence']}" for comparison in figure["comparisons"]]
        lines += [f"  {each}" for each in (*part["notes"], *([part["note"]] if part["note"] else []))]
    return lines
