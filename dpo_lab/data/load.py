"""Preference pairs of a file or a split: read, adapted, validated; or one message with all that stands in the way."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from dpo_lab.data.files import Row, Rows
from dpo_lab.data.formats import ADAPTERS, READ_COLUMNS, detect
from dpo_lab.data.hub import Split
from dpo_lab.data.problems import CODES, DataError, Problem, Problems, Report, RowProblem
from dpo_lab.data.validation import validate
from dpo_lab.progress import Part, part
from dpo_lab.records import PreferencePair

SPELLED_OUT = 20
"""Error rows that one message spells out; the others are counted."""
ROWS_AT_A_TIME = 1000  # between two moves of the bar: a move costs more than a row
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
    rows, unread = Rows(path), dict[str, None]()
    taken = iter(rows)
    first = next(taken)
    refuse_unknown_layout(str(path), *first)

    def noted() -> Iterator[tuple[str, int, Row]]:
        for number, row in chain([first], taken):
            unread.update((name, None) for name in row if name not in READ_COLUMNS)
            yield path.name, number, row

    return usable_pairs(path.name, str(path), noted(), unread, max_dropped, at_most=rows.at_most)


def load_split(split: Split, *, max_dropped: float) -> tuple[list[PreferencePair], Report]:
    """Return the usable pairs of one split in order, and the report of all its rows; what is read and refused as in a file.

    Rows are taken one by one from the library's memory-mapped copy, without the columns that no layout reads.
    """
    first = next(split.rows(), None)
    if first is None:
        raise DataError(f"{split.label} has no rows, so there is nothing to train on. Choose another split.", code="empty_file")
    refuse_unknown_layout(split.label, *first[1:])
    unread = [name for name in split.columns if name not in READ_COLUMNS]
    rows, at_most = split.rows(READ_COLUMNS), sum(count for _, count in split.files)
    return usable_pairs(split.label, split.label, rows, unread, max_dropped, at_most=at_most)


def usable_pairs(
    name: str, place: str, rows: Iterable[tuple[str, int, Row]], unread: Iterable[str], max_dropped: float, *, at_most: int
) -> tuple[list[PreferencePair], Report]:
    """Return the pairs of (file, number, row) that can be trained on, and the report; DataError as `load_pairs`.

    Args:
        name: of all rows together, in the report.
        place: the same in messages, as a person finds it.
        unread: columns that no layout reads; looked at when all rows are taken.
        at_most: how many rows there can be, for the bar.
    """
    problems = Problems()
    with part(f"read {name}", at_most) as shown:
        counted = Counted(rows, shown)
        pairs, found = validate(adapt_rows(counted, problems))
    problems.extend(found)
    report = Report(file=name, num_rows=counted.count, num_pairs=len(pairs), problems=problems, unread_columns=tuple(unread))
    refuse_error_rows(place, report)
    refuse_dropped_rows(place, report, max_dropped)
    return pairs, report


class Counted:
    """Rows that are counted and shown as they pass, because a stream does not know its length."""

    def __init__(self, rows: Iterable[tuple[str, int, Row]], shown: Part) -> None:
        self._rows, self._shown, self.count = rows, shown, 0

    def __iter__(self) -> Iterator[tuple[str, int, Row]]:
        for each in self._rows:
            self.count += 1
            if self.count % ROWS_AT_A_TIME == 0:
                self._shown.advance(ROWS_AT_A_TIME)
            yield each


def adapt_rows(rows: Iterable[tuple[str, int, Row]], problems: Problems) -> Iterator[PreferencePair]:
    """Yield the pair of each (file, number, row), or add to the problems; the first row whose layout is known decides all."""
    layout = ""
    for file, number, row in rows:
        try:
            found = detect(row)
            layout = layout or found
            if found != layout:
                raise RowProblem("mixed_formats", f"columns {', '.join(row)} are {found}; the rows before are {layout}")
            yield replace(ADAPTERS[layout](row), source=file, row=number)
        except RowProblem as problem:
            problems.append(Problem(file=file, row=number, code=problem.code, verdict=problem.verdict, found=problem.found))


def refuse_unknown_layout(place: str, number: int, row: Row) -> None:
    """Raise DataError if the first row shows that the file holds no pairs in a layout that is read."""
    if "prompt" in row and not any(name.lower().startswith(RESPONSE_WORDS) for name in row):
        raise DataError(
            f"{place} holds prompts, not pairs (columns of row {number}: {', '.join(row)}), so there is nothing to prefer. "
            f"Let the model answer them with data=on_policy prompts=jsonl prompts.path={place}, "
            "or add the columns chosen and rejected.",
            code="prompts_only",
        )
    try:
        detect(row)
    except RowProblem as problem:
        if problem.code == "unknown_layout":
            raise DataError(
                f"{place} row {number}: {CODES[problem.code].meaning} ({problem.found}), so the file is not used. "
                f"{CODES[problem.code].remedy}",
                code=problem.code,
            ) from None


def refuse_error_rows(place: str, report: Report) -> None:
    """Raise one DataError that lists every row with the verdict error."""
    errors = report.of("error")
    if not errors:
        return
    rows = report.number("error")  # a row ends at its first error
    lines = [f"{place}: {rows} of {report.num_rows} rows cannot be used, so the run stops before anything is trained."]
    lines += [f"  {report.spot(problem)}: {problem.found} [{problem.code}]" for problem in errors[:SPELLED_OUT]]
    if rows > SPELLED_OUT:
        lines.append(f"  and {rows - SPELLED_OUT} more")
    lines += [f"  {code}: {CODES[code].remedy}" for code in report.codes("error")]
    raise DataError("\n".join(lines), code=errors[0].code)


def refuse_dropped_rows(place: str, report: Report, max_dropped: float) -> None:
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
        f"{place}: {dropped} of {report.num_rows} rows ({share:.1%}) are left out, {limit}.",
        *report.lines()[1:],
        f"{remedy}.",
    ]
    raise DataError("\n".join(lines), code="too_many_dropped")
