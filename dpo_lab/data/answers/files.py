"""Answers of JSON, JSON Lines, CSV and parquet files, or of a directory of them, taken row by row."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from dpo_lab.artifacts import file_digest, refuse_damage
from dpo_lab.components import Component, component
from dpo_lab.damage import BEGUN
from dpo_lab.data.answers.columns import AnswerColumns, answer_roles_of, is_pair, refuse_absent
from dpo_lab.data.answers.rows import AnswerReader, is_own, of_pair, own, usable
from dpo_lab.data.columns import Columns, Row
from dpo_lab.data.csv_rows import CsvRows
from dpo_lab.data.files import SUFFIXES, Rows, refuse_other_than_rows
from dpo_lab.data.kinds import is_empty
from dpo_lab.data.pairs import pair_of
from dpo_lab.data.parquet_rows import ParquetRows
from dpo_lab.data.problems import CODES, DataError, Problem, Problems, Report, RowProblem
from dpo_lab.data.reader import SILENT, RowReader, sample_of
from dpo_lab.progress import part
from dpo_lab.records import Candidates

CSV, PARQUET = ".csv", ".parquet"
TABLES: dict[str, type[CsvRows] | type[ParquetRows]] = {CSV: CsvRows, PARQUET: ParquetRows}
"""What reads the rows of files that are not JSON, by the end of their name."""
OWN_FILE = "candidates.jsonl"
GIVE_NOTHING = ("one_answer", "equal_answers")
"""Codes of rows in which nothing is wrong, and nothing can be preferred."""
ROWS_AT_A_TIME = 1000  # between two moves of the bar
Read = Callable[[Row], Candidates]


@component
class AnswerFiles(Component):
    """Files whose rows hold a prompt and several answers: .json, .jsonl, .csv, .parquet, or a directory of such files.

    The names of columns decide how a file is read, each file by itself; where more than one choice of columns can be meant,
    nothing is read.
    """

    path: Path
    """The file or directory; an artifact `candidates` is read with its drawn tokens."""
    columns: AnswerColumns = AnswerColumns()
    """Which column holds what; without a name in it, known names decide."""
    max_dropped: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of rows that may be unusable before the stage stops; rows of one answer or of equal answers do not count."""

    @property
    def label(self) -> str:
        """The file's name without its suffix, or the directory's."""
        return self.path.stem if self.path.suffix.lower() in (*SUFFIXES, *TABLES) else self.path.absolute().name

    def content(self) -> dict[str, Any]:
        """Return the columns with the files' digests in place of their path; how many rows may be unusable does not count."""
        return {"columns": self.columns.content(), "files": [[path.name, file_digest(path)] for path in self.files()]}

    def check_file(self) -> None:
        """Raise DataError if there is no such file or directory; read no row."""
        self.files()

    def files(self) -> list[Path]:
        """Return the files, in the order of their names.

        Raises:
            DataError: if there is none, or what makes them is unfinished.
            RunError: if they are damaged.
        """
        directory = self.path if self.path.is_dir() else self.path.parent
        if (directory / BEGUN).is_file():
            raise DataError(
                f"{directory} is unfinished: the command that makes it was stopped. Run that command again first.",
                code="unfinished",
            )
        refuse_damage(directory)
        if not self.path.is_dir():
            if self.path.suffix.lower() not in TABLES or not self.path.exists():
                refuse_other_than_rows(self.path, "candidates.path")
            return [self.path]
        if (self.path / OWN_FILE).is_file():
            return [self.path / OWN_FILE]
        files = sorted(path for path in self.path.iterdir() if path.suffix.lower() in (*SUFFIXES, *TABLES) and path.is_file())
        if not files:
            raise DataError(
                f"{self.path} holds no {', '.join((*SUFFIXES, *TABLES))} file, so there are no answers. Correct "
                f"candidates.path (now in {Path.cwd()}), or convert the files to JSON Lines.",
                code="no_file",
            )
        return files

    def read(self, reports: list[Report]) -> Iterator[Candidates]:
        """Yield the usable candidates of all files, one row at a time; a report of each file is added when it is read.

        Raises:
            DataError: a file cannot be read, its columns can be read in no way or in several, or too many rows are unusable.
        """
        seen: set[str] = set()
        for path in self.files():
            yield from _AnswerFile(path, self.columns, self.max_dropped, seen).read(reports)


class _AnswerFile:
    """One file while it is read."""

    def __init__(self, path: Path, columns: AnswerColumns, max_dropped: float, seen: set[str]) -> None:
        """Take `seen`, the ids of the prompts of earlier files."""
        self.path, self.columns, self.max_dropped, self.seen = path, columns, max_dropped, seen
        self.problems, self.unread = Problems(), dict[str, None]()
        self.num_rows = self.num_kept = 0

    def read(self, reports: list[Report]) -> Iterator[Candidates]:
        table = TABLES.get(self.path.suffix.lower())
        rows = table(self.path) if table else Rows(self.path, key="candidates.path")
        sample = sample_of(rows.again(), [path for paths in self.columns.named.values() for path in paths])
        take, known, note = self._reading(sample)
        with part(f"read {self.path.name}", rows.at_most) as shown:
            for number, row in rows:
                self.num_rows += 1
                if self.num_rows % ROWS_AT_A_TIME == 0:
                    shown.advance(ROWS_AT_A_TIME)
                if candidates := self._taken(take, number, row):
                    self.num_kept += 1
                    self.unread.update(dict.fromkeys(_unread(row, known)))
                    yield candidates
        report = Report(
            file=self.path.name,
            num_rows=self.num_rows,
            num_kept=self.num_kept,
            noun="prompts with answers",
            problems=self.problems,
            unread_columns=tuple(self.unread),
            notes=(note,) if note else (),
        )
        self._refuse_dropped(report)
        reports.append(report)

    def _reading(self, sample: Row) -> tuple[Read, Sequence[str] | None, str]:
        """Return how rows become candidates, the columns that are read (None: all are known), and a line on it for people."""
        if not self.columns.named and is_own(sample):
            return own, None, ""
        refuse_absent(self.columns, sample, str(self.path))
        try:
            if is_pair(sample, self.columns):
                pairs = RowReader.for_rows(sample, Columns())
                note = "labelled pairs: chosen is preferred, and the order of both answers is drawn from their texts"
                return lambda row: of_pair(pair_of(pairs.read(row))), tuple(pairs.read_columns), note
            roles = answer_roles_of(sample, self.columns)
        except RowProblem as problem:
            raise self._refusal(1, problem) from None
        return AnswerReader(roles, self.columns).read, roles.columns, roles.note()

    def _taken(self, take: Read, number: int, row: Row) -> Candidates | None:
        """Return the candidates of a row, None where it is left out; DataError if it shows that the file is read wrongly."""
        try:
            candidates, left_out = usable(take(row))
        except RowProblem as problem:
            if problem.verdict == "error":
                raise self._refusal(number, problem) from None
            self._note(number, problem.code, "drop", problem.found)
            return None
        for why in left_out:
            self._note(number, "unusable_answer", "keep", why)
        if candidates.prompt.id in self.seen:
            self._note(number, "equal_prompt", "keep", "")
        self.seen.add(candidates.prompt.id)
        return replace(candidates, source=self.path.name, row=number)

    def _note(self, number: int, code: str, verdict: Any, found: str) -> None:
        self.problems.append(Problem(file=self.path.name, row=number, code=code, verdict=verdict, found=found))

    def _refusal(self, number: int, problem: RowProblem) -> DataError:
        return DataError(f"{self.path} row {number} [{problem.code}], so nothing is ranked: {problem.found}", code=problem.code)

    def _refuse_dropped(self, report: Report) -> None:
        """Raise DataError if no row is left, or too large a share of the rows is unusable."""
        faulty = {code: count for code, count in report.codes("drop").items() if code not in GIVE_NOTHING}
        share = sum(faulty.values()) / report.num_rows
        if report.num_kept and share <= self.max_dropped:
            return
        counts = report.codes("drop") if not report.num_kept else faulty
        first = next(fault for fault in report.of("drop") if fault.code in counts)
        why = "; ".join(f"{count} x {code}: {CODES[code].meaning}" for code, count in counts.items())
        example = f"{why} (row {first.row}: {first.found})"
        if not report.num_kept:
            raise DataError(f"{self.path}: none of {report.num_rows} rows can be ranked: {example}.", code="too_many_dropped")
        raise DataError(
            f"{self.path}: {sum(faulty.values())} of {report.num_rows} rows ({share:.1%}) cannot be used: {example}. Correct the "
            f"rows, or raise the limit: candidates.max_dropped={math.ceil(share * 100) / 100}",
            code="too_many_dropped",
        )


def _unread(row: Row, known: Sequence[str] | None) -> list[str]:
    """Return the columns of a row that hold something and are not read."""
    if known is None:
        return []
    tops = {*known, *(name.partition(".")[0] for name in known), *SILENT, "finished"}
    return [name for name, value in row.items() if name not in tops and not is_empty(value)]
