"""What the stage `evaluate` does with answers that were made elsewhere: a judge compares the files on the same prompts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dpo_lab.amounts import count_of
from dpo_lab.artifacts import Artifact, Plan, content_id
from dpo_lab.components import ConfigError
from dpo_lab.continuing import remove_kept
from dpo_lab.data.answers.columns import AnswerColumns
from dpo_lab.data.answers.files import AnswerFiles
from dpo_lab.data.answers.single import rows_of, single_answers
from dpo_lab.data.categories import NONE, labelled
from dpo_lab.data.problems import excerpt
from dpo_lab.evaluation.context import Measured
from dpo_lab.evaluation.given_answers import figures_beside, measured_beside
from dpo_lab.figures import Figure
from dpo_lab.memory.loading import check_ranker_fits
from dpo_lab.pipeline.compared_models import by_category, compared_figure, left_out_line, verdict_lines
from dpo_lab.pipeline.compared_runs import REPORT_JSON
from dpo_lab.pipeline.evaluated_models import short_names
from dpo_lab.pipeline.evaluation_report import samples_of, screen_lines, write_report
from dpo_lab.pipeline.ranker import ready
from dpo_lab.progress import say
from dpo_lab.ranking.base import Ranker
from dpo_lab.records import Candidates
from dpo_lab.run_directory import LOGGERS, REPORT

PART = "answers"


@dataclass(frozen=True, kw_only=True)
class AnswersOf:
    """The answers of one model."""

    name: str
    path: Path
    id: str
    """Of the files' content."""
    answers: Mapping[str, Candidates]
    """Of one answer each, by the prompt's id."""


def compare_answers(
    paths: Sequence[Path],
    against: str | None,
    *,
    judge: Ranker,
    columns: AnswerColumns,
    shared: bool,
    category: str | None,
    outputs: Path,
    device: torch.device,
    force: bool,
) -> tuple[dict[str, Any], Artifact]:
    """Return the report of a comparison and the artifact that holds it; what was compared before is not judged again.

    Args:
        against: the file, as it stands in `paths` or as it is called, that each other one is compared with; None: every pair.
        shared: whether prompts that not every file answers are left out instead of refused.
        category: the column of the table by category; None: no such table.

    Raises:
        ConfigError: if there are fewer than two files, one stands there twice, they answer different prompts, or no file has the
            column of the category.
        DataError: if a file cannot be read.
    """
    files = answers_of(paths, columns)
    chosen = None if against is None else named_file(against, files)
    if not shared:
        refuse_other_prompts(files)
    prompts = shared_prompts(files)
    categories = categories_of(files, category) if category else {}
    judge, trained = ready(judge, outputs)
    figures = figures_beside(judge, files[0].name)
    content = {
        "answers": [(file.name, file.id) for file in files],
        "judge": judge.content(),
        "against": chosen,
        "shared": shared,
        **({"category": category} if category else {}),
    }
    parents = [each.id for each in trained]
    plan = Plan(outputs, "evaluation", f"{len(files)}-answers", content, parents=parents, apart=(LOGGERS,))

    def produce(directory: Path) -> dict[str, Any]:
        check_ranker_fits(judge, device)
        answers = {file.name: [file.answers[prompt] for prompt in prompts] for file in files}
        measured = measured_beside(judge, answers, device, directory)
        report = report_on(files, figures, measured, chosen, category, categories)
        write_report(directory, report, (line for figure in figures for line in verdict_lines(PART, figure, measured)))
        remove_kept(directory)
        return {"prompts": len(prompts), "files": [file.name for file in files]}

    made = plan.make(produce, force=force, resume=True)
    report = json.loads((made.path / REPORT_JSON).read_text(encoding="utf-8"))
    say(*screen_lines(report), f"report {made.path / REPORT}")
    return report, made


def answers_of(paths: Sequence[Path], columns: AnswerColumns) -> list[AnswersOf]:
    """Return the answers of every file; ConfigError for fewer than two files, or one that is named twice."""
    if len(paths) < 2:
        raise ConfigError(
            f"answers=[{','.join(map(str, paths))}]: a comparison takes two files or more, the first of which the others are "
            f"judged against: answers=[{','.join(map(str, [*paths, 'FILE']))}]"
        )
    places = [each.resolve() for each in paths]
    if twice := [each for each, place in zip(paths, places, strict=True) if places.count(place) > 1]:
        raise ConfigError(f"answers names {twice[0]} twice; leave one of them out.")
    names, notes, files = short_names([str(each) for each in paths]), list[str](), list[AnswersOf]()
    for name, path in zip(names, paths, strict=True):
        answers = {answer.prompt.id: answer for answer in single_answers(path, columns, notes)}
        identity = content_id("answers", AnswerFiles(path=path, columns=columns).content())
        files.append(AnswersOf(name=name, path=path, id=identity, answers=answers))
    say(*(f"  {note}" for note in notes))
    return files


def shared_prompts(files: Sequence[AnswersOf]) -> list[str]:
    """Return the ids of the prompts that every file answers, and say how many are left out; ConfigError if there is none."""
    prompts = [prompt for prompt in files[0].answers if all(prompt in file.answers for file in files)]
    if not prompts:
        raise ConfigError(
            f"answers: no prompt is answered in all of {', '.join(file.name for file in files)}: nothing to compare."
        )
    if left := len(set().union(*(file.answers for file in files))) - len(prompts):
        say(f"  {count_of(left, 'prompt')} not answered in every file: left out (shared=true)")
    return prompts


def categories_of(files: Sequence[AnswersOf], column: str) -> dict[str, str]:
    """Return what a column says of each prompt, by the prompt's id; a file without the column, or without a value, says nothing.

    Args:
        column: a name, or a dotted path.

    Raises:
        ConfigError: if no file has the column, or two say different things of a prompt.
    """
    ids = {(_placed(file, each.source), each.row): prompt for file in files for prompt, each in file.answers.items()}
    rows = ((_placed(file, source), number, row) for file in files for source, number, row in rows_of(file.path))
    found = dict[str, tuple[str, str]]()
    for place, number, _, said in labelled(rows, column, f"answers=[{','.join(str(file.path) for file in files)}]"):
        prompt, where = ids[place, number], f"{place} row {number}"
        earlier, known = found.get(prompt, (where, NONE))
        if known == NONE:
            found[prompt] = (where, said)
        elif said not in (NONE, known):
            raise ConfigError(
                f"category={column}: {earlier} says {excerpt(known, 60)} and {where} {excerpt(said, 60)} of the same prompt, so "
                "there is no table. Correct one of the two rows, or leave category out."
            )
    return {prompt: said for prompt, (_, said) in found.items()}


def _placed(file: AnswersOf, source: str) -> str:
    """Return the name of a file, or of one in a directory."""
    return f"{file.name}/{source}" if file.path.is_dir() else file.name


def named_file(against: str, files: Sequence[AnswersOf]) -> str:
    """Return the name of the file that was asked for by its name or its path."""
    for file in files:
        if against in (file.name, str(file.path)):
            return file.name
    names = ", ".join(file.name for file in files)
    raise ConfigError(f"against={against} is not among the files of answers; use one of {names}, or null for every pair.")


def refuse_other_prompts(files: Sequence[AnswersOf]) -> None:
    """Raise ConfigError if two files do not answer the same prompts."""
    first, *others = files
    for other in others:
        alone = [
            (one.name, [answer for prompt, answer in one.answers.items() if prompt not in beside.answers])
            for one, beside in ((first, other), (other, first))
        ]
        lacking = [
            f"{count_of(len(rows), 'prompt')} in {name} only (row {rows[0].row}: {excerpt(rows[0].prompt.text, 60)})"
            for name, rows in alone
            if rows
        ]
        if lacking:
            both = len(first.answers) - len(alone[0][1])
            use = f", or type shared=true to compare them on the {count_of(both, 'prompt')} that both answer" if both else ""
            raise ConfigError(
                f"answers: {first.name} and {other.name} answer different prompts, so nothing is compared: {'; '.join(lacking)}. "
                f"Give files that answer the same prompts{use}."
            )


def report_on(
    files: Sequence[AnswersOf],
    figures: Sequence[Figure],
    measured: Mapping[str, Measured],
    against: str | None,
    category: str | None,
    categories: Mapping[str, str],
) -> dict[str, Any]:
    """Return what report.json holds, in the form of an evaluation of models."""
    compared = [compared_figure(figure, measured, against) for figure in figures]
    compared = [comparison for comparison in compared if comparison.values]
    part = {
        "name": PART,
        "title": f"answers to {count_of(len(next(iter(measured.values())).answers), 'prompt')}",
        "note": "",
        "measurements": {},
        "figures": [comparison.record() for comparison in compared],
        "categories": by_category(categories, measured, compared),
        "notes": left_out_line([comparison for comparison in compared if comparison.figure.headline]),
        "samples": samples_of(measured),
    }
    models = [{"name": file.name, "path": str(file.path), "id": file.id, "before": None} for file in files]
    return {"models": models, "against": against, "category": category, "parts": [part]}
