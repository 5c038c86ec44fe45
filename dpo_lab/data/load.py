"""Preference pairs of a file: read, adapted, validated; or one message with all that stands in the way."""

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from dpo_lab.data.files import Row, read_rows
from dpo_lab.data.formats import ADAPTERS, READ_COLUMNS, detect
from dpo_lab.data.problems import CODES, DataError, Problem, Report, RowProblem
from dpo_lab.data.validation import validate
from dpo_lab.records import PreferencePair

SPELLED_OUT = 20
"""Error rows that one message spells out; the others are counted."""
RESPONSE_WORDS = ("response", "output", "completion", "answer", "label", "generation", "chosen", "rejected")
"""Beginnings of column names that hold responses, so that their file is more than prompts."""


def load_pairs(path: Path, *, max_dropped: float) -> tuple[list[PreferencePair], Report]:
    """Return the usable pairs of a .jsonl or .json file in file order, and the report of all rows.

    Args:
        path: the file, in any layout of `formats.ADAPTERS`.
        max_dropped: share of rows, 0 to 1, that may be left out.

    Raises:
        DataError: the file cannot be read, its layout is unknown, some rows are errors (all are listed), or more than
            `max_dropped` of the rows, or all of them, would be left out.
    """
    rows = read_rows(path)
    refuse_unknown_layout(path, *rows[0])
    adapted, problems = adapt_rows(path.name, rows)
    pairs, found = validate(adapted)
    report = Report(
        file=path.name,
        num_rows=len(rows),
        num_pairs=len(pairs),
        problems=tuple(sorted([*problems, *found], key=lambda problem: problem.row)),
        unread_columns=tuple(dict.fromkeys(name for _, row in rows for name in row if name not in READ_COLUMNS)),
    )
    refuse_error_rows(path, report)
    refuse_dropped_rows(path, report, max_dropped)
    return pairs, report


def adapt_rows(file: str, rows: Iterable[tuple[int, Row]]) -> tuple[list[PreferencePair], list[Problem]]:
    """Return a pair or a problem for every row; the first row whose layout is known decides the file's."""
    pairs: list[PreferencePair] = []
    problems: list[Problem] = []
    layout = ""
    for number, row in rows:
        try:
            found = detect(row)
            layout = layout or found
            if found != layout:
                raise RowProblem("mixed_formats", f"columns {', '.join(row)} are {found}; the rows before are {layout}")
            pairs.append(replace(ADAPTERS[layout](row), source=file, row=number))
        except RowProblem as problem:
            problems.append(Problem(file=file, row=number, code=problem.code, verdict=problem.verdict, found=problem.found))
    return pairs, problems


def refuse_unknown_layout(path: Path, number: int, row: Row) -> None:
    """Raise DataError if the first row shows that the file holds no pairs in a layout that is read."""
    if "prompt" in row and not any(name.lower().startswith(RESPONSE_WORDS) for name in row):
        raise DataError(
            f"{path} holds prompts, not pairs (columns of row {number}: {', '.join(row)}), so there is nothing to prefer. "
            "Let the model answer them with data=on_policy, or add the columns chosen and rejected.",
            code="prompts_only",
        )
    try:
        detect(row)
    except RowProblem as problem:
        if problem.code == "unknown_layout":
            raise DataError(
                f"{path} row {number}: {CODES[problem.code].meaning} ({problem.found}), so the file is not used. "
                f"{CODES[problem.code].remedy}",
                code=problem.code,
            ) from None


def refuse_error_rows(path: Path, report: Report) -> None:
    """Raise one DataError that lists every row with the verdict error."""
    errors = report.of("error")
    if not errors:
        return
    rows = len({problem.row for problem in errors})
    lines = [f"{path}: {rows} of {report.num_rows} rows cannot be used, so the run stops before anything is trained."]
    lines += [f"  row {problem.row}: {problem.found} [{problem.code}]" for problem in errors[:SPELLED_OUT]]
    if len(errors) > SPELLED_OUT:
        lines.append(f"  and {len(errors) - SPELLED_OUT} more")
    lines += [f"  {code}: {CODES[code].remedy}" for code in CODES if any(problem.code == code for problem in errors)]
    raise DataError("\n".join(lines), code=errors[0].code)


def refuse_dropped_rows(path: Path, report: Report, max_dropped: float) -> None:
    """Raise DataError if no row is left, or a larger share than `max_dropped` was left out."""
    dropped = report.num_rows - report.num_pairs
    share = dropped / report.num_rows
    if report.num_pairs and share <= max_dropped:
        return
    if report.num_pairs:
        limit = f"more than the {max_dropped:.1%} that data.max_dropped={max_dropped} allows"
        remedy = f"Correct the rows, or raise the limit: data.max_dropped={math.ceil(share * 100) / 100}"
    else:
        limit, remedy = "and none can be trained on", "Correct the rows; raising data.max_dropped=... does not help here"
    lines = [
        f"{path}: {dropped} of {report.num_rows} rows ({share:.1%}) are left out, {limit}.",
        *report.lines()[1:],
        f"{remedy}.",
    ]
    raise DataError("\n".join(lines), code="too_many_dropped")
