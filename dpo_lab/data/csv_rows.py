"""Rows of a .csv file: text under the names of its first line, or one sentence on why there are none."""

import csv
from collections.abc import Iterator
from pathlib import Path

from dpo_lab.data.files import Row, count_lines, readable, refuse_lfs_pointer
from dpo_lab.data.problems import DataError, excerpt

LONGEST = 1 << 30  # characters of a field; the library's own limit, 131,072, is shorter than a long conversation


class CsvRows:
    """(row number, {column: text}) of every row of a comma-separated file; numbers count from 1 below the line of names.

    One row is held at a time.

    Raises:
        DataError: the file is empty, not UTF-8, has two columns of one name, or a row has more or fewer fields than columns.
    """

    def __init__(self, path: Path) -> None:
        """Look at the file's first bytes."""
        self.path = path
        with readable(path):
            with path.open("rb") as file:
                refuse_lfs_pointer(path, file.read(200))
            self.at_most = count_lines(path)
            """How many rows there can be; a field with line ends in it takes several lines."""

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        csv.field_size_limit(LONGEST)
        try:
            with readable(self.path), self.path.open(encoding="utf-8-sig", newline="") as file:
                yield from self._rows(csv.reader(file, strict=True))
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self.path} is not UTF-8: it holds 0x{error.object[error.start]:02X}. Characters are never guessed, so nothing "
                "is read. Save the file as UTF-8.",
                code="bad_encoding",
            ) from error
        except csv.Error as error:
            raise DataError(
                f"{self.path} is not valid CSV ({error}), so the file is not read. Quote the fields that hold commas, quotes or "
                "line ends, or write JSON Lines.",
                code="bad_csv",
            ) from error

    def again(self) -> Iterator[Row]:
        """Yield the rows without their numbers."""
        return (row for _, row in self)

    def _rows(self, lines: Iterator[list[str]]) -> Iterator[tuple[int, Row]]:
        names = next(lines, [])
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"{self.path} has two columns {excerpt(twice[0])}. Rename one of them.", code="bad_csv")
        number = 0
        for fields in lines:
            if not fields:
                continue
            number += 1
            if len(fields) != len(names):
                raise DataError(
                    f"{self.path} row {number} has {len(fields)} fields and the first line names {len(names)} columns, so the "
                    "file is not read. Quote the fields that hold commas.",
                    code="bad_csv",
                )
            yield number, dict(zip(names, fields, strict=True))
        if not number:
            raise DataError(f"{self.path} has no rows below its line of names.", code="empty_file")
