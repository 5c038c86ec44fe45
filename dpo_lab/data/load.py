"""The examples of a file or a split: read, adapted, validated; or one message with all that stands in the way."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Generic, TypeVar

from dpo_lab.data.columns import Columns, refuse_absent
from dpo_lab.data.files import Row, Rows
from dpo_lab.data.hub import Split
from dpo_lab.data.kinds import words_of
from dpo_lab.data.mapping import explained_mapping, is_better, is_worse, mapping_for
from dpo_lab.data.pairs import left_out, pair_of
from dpo_lab.data.problems import CODES, DataError, Problem, Problems, Report, RowProblem
from dpo_lab.data.reader import REFUSALS, RowReader, sample_of
from dpo_lab.data.validation import validate
from dpo_lab.progress import Part, part
from dpo_lab.records import Example, PreferencePair

Taken = TypeVar("Taken", bound=Example)

SPELLED_OUT = 20
"""Error rows that one message spells out; the others are counted."""
ROWS_AT_A_TIME = 1000  # between two moves of the bar: a move costs more than a row
KNOWN = Columns()
"""Nothing said: the names of the columns decide."""
RESPONSE_WORDS = ("response", "output", "completion", "answer", "label", "generation", "chosen", "rejected")
"""Beginnings of column names that hold responses, so that their file is more than prompts."""


def load_pairs(path: Path, *, max_dropped: float, columns: Columns = KNOWN) -> tuple[list[PreferencePair], Report]:
    """Return the usable pairs of a .jsonl or .json file in file order; arguments and the rest as `load_examples`."""
    return load_examples(path, pair_of, max_dropped=max_dropped, columns=columns)


def load_examples(
    path: Path, take: Callable[[Example], Taken], *, max_dropped: float, columns: Columns = KNOWN
) -> tuple[list[Taken], Report]:
    """Return the usable examples of a .jsonl or .json file in file order, and the report of all rows.

    Args:
        path: the file, in any format of `formats.FORMATS`.
        take: makes what a loss takes of an example; RowProblem where it can take none.
        max_dropped: share of rows, 0 to 1, that may be left out.
        columns: which column holds what, where the user says so.

    Raises:
        DataError: the file cannot be read, its format is unknown, some rows are errors (all are listed), or more than
            `max_dropped` of the rows, or all of them, would be left out.
    """
    rows = Rows(path)
    adapted = Adapted(((path.name, *row) for row in rows), take, columns, sample=rows.again())
    return usable(path.name, str(path), adapted, max_dropped, at_most=rows.at_most)


def load_split(split: Split, *, max_dropped: float, columns: Columns = KNOWN) -> tuple[list[PreferencePair], Report]:
    """Return the usable pairs of one split in order, and the report of all its rows; what is read and refused as in a file.

    Rows are taken one by one from the library's memory-mapped copy, without the columns that would be decoded as pictures.
    """
    if not split.data.num_rows:
        raise DataError(f"{split.label} has no rows, so there is nothing to train on. Choose another split.", code="empty_file")
    wanted = [name for name in split.columns if name not in split.media]
    if split.media and not columns.named:
        raise DataError(
            f"{split.label}: {CODES['unread_input'].meaning}: {', '.join(split.media)} cannot be read. "
            f"{explained_mapping(next(split.rows(wanted))[2])}.",
            code="unread_input",
        )
    adapted = Adapted(split.rows(wanted), pair_of, columns, sample=(row for _, _, row in split.rows(wanted)))
    return usable(split.label, split.label, adapted, max_dropped, at_most=sum(count for _, count in split.files))


def usable(name: str, place: str, adapted: "Adapted[Taken]", max_dropped: float, *, at_most: int) -> tuple[list[Taken], Report]:
    """Return the examples that can be trained on, and the report; DataError as `load_examples`.

    Args:
        name: of all rows together, in the report.
        place: the same in messages, as a person finds it.
        adapted: the rows.
        max_dropped: share of rows that may be left out.
        at_most: how many rows there can be, for the bar.
    """
    adapted.refuse_format(place)
    with part(f"read {name}", at_most) as shown:
        adapted.shown = shown
        kept, found = validate(adapted)
    adapted.problems.extend(found)
    report = Report(
        file=name,
        num_rows=adapted.num_rows,
        num_kept=len(kept),
        noun=kept[0].noun if kept else "pairs",
        problems=adapted.problems,
        unread_columns=tuple(adapted.unread),
        notes=tuple(adapted.reader.notes(kept[0], report_place(kept[0], name)) if adapted.reader and kept else ()),
    )
    refuse_error_rows(place, report)
    refuse_dropped_rows(place, report, max_dropped)
    return kept, report


def report_place(example: Example, name: str) -> str:
    """Return where an example stands, for a report of `name`."""
    return f"row {example.row}" if example.source == name else f"{example.source} row {example.row}"


class Adapted(Generic[Taken]):
    """What a loss takes of (file, number, row), made as they pass; the first rows together decide how all are read."""

    def __init__(
        self,
        rows: Iterable[tuple[str, int, Row]],
        take: Callable[[Example], Taken],
        columns: Columns = KNOWN,
        *,
        sample: Iterable[Row] = (),
    ) -> None:
        """Take the first row.

        Args:
            rows: all rows.
            take: makes what a loss takes of an example.
            columns: which column holds what, where the user says so.
            sample: the rows once more, of which none is held and the first are looked at; without them the first row decides.
        """
        self._rows, self._columns, self._take = iter(rows), columns, take
        self._first = next(self._rows, None)
        self.shown: Part | None = None
        self.num_rows = 0
        self.problems = Problems()
        self.unread: dict[str, None] = {}
        self.sample = sample_of(chain([self._first[2]] if self._first else [], sample), columns.named.values())
        self.reader: RowReader | None = None
        self.refusal: RowProblem | None = None
        try:
            self.reader = RowReader.for_rows(self.sample, columns)
        except RowProblem as problem:
            self.refusal = problem

    def refuse_format(self, place: str) -> None:
        """Raise DataError if the rows together, or the first one, show that nothing of the file can be taken."""
        if self._first is None:
            return
        _, number, row = self._first
        refuse_absent(self._columns, self.sample, place)
        refuse_prompts_only(place, number, self.sample, self._columns)
        self.sample, problem = {}, self.refusal
        try:
            if self.reader:
                self._take(self.reader.read(row))
        except RowProblem as found:
            problem = found
        if problem and problem.code in REFUSALS:
            code = CODES[problem.code]
            raise DataError(
                f"{place} row {number}: {code.meaning} ({problem.found}). The file is not used. {code.remedy}", code=problem.code
            ) from None

    def _taken(self) -> Iterator[tuple[str, int, Row]]:
        """Yield all rows; none is held after the next is asked for."""
        if self._first:
            first, self._first = self._first, None
            yield first
            del first
        yield from self._rows

    def __iter__(self) -> Iterator[Taken]:
        """Yield what is taken of each row, or add to the problems."""
        for file, number, row in self._taken():
            self.num_rows += 1
            if self.shown and self.num_rows % ROWS_AT_A_TIME == 0:
                self.shown.advance(ROWS_AT_A_TIME)
            try:
                reader = self.reader.joined(row) if self.reader else RowReader.for_rows(row, self._columns)
                self.reader = self.reader and reader
                example = reader.read(row)
                taken = self._take(example)
            except RowProblem as problem:
                code, verdict = problem.code, problem.verdict
                self.problems.append(Problem(file=file, row=number, code=code, verdict=verdict, found=problem.found))
                continue
            self.unread.update(dict.fromkeys(reader.unread(row)))
            if found := left_out(example, taken):
                self.problems.append(Problem(file=file, row=number, code="answers_left_out", verdict="keep", found=found))
            yield replace(taken, source=file, row=number)


def refuse_prompts_only(place: str, number: int, row: Row, columns: Columns) -> None:
    """Raise DataError if the rows hold prompts and no column that by its name holds an answer."""
    if columns.named or "prompt" not in row or any(name.lower().startswith(RESPONSE_WORDS) for name in row):
        return
    if any(is_better(words) or is_worse(words) for words in map(words_of, row)):
        return
    words = mapping_for(row)
    pair = "" if "=NAME" in words else f", or, if two columns hold answers, say which: {words}"
    raise DataError(
        f"{place} holds prompts, not pairs (columns of row {number}: {', '.join(row)}), so there is nothing to prefer. "
        f"Let the model answer them with data=on_policy prompts=jsonl prompts.path={place}, "
        f"or add the columns chosen and rejected{pair}.",
        code="prompts_only",
    )


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
    dropped = report.num_rows - report.num_kept
    share = dropped / report.num_rows
    if report.num_kept and share <= max_dropped:
        return
    if report.num_kept:
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
