"""Rows of a .jsonl or .json file, or one sentence on why there are none."""

import codecs
import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from dpo_lab.data.absent import place_of_rows
from dpo_lab.data.json_list import DECODER, Constant, items_of, not_json, syntax_reason
from dpo_lab.data.problems import DataError, excerpt
from dpo_lab.hub import LFS_POINTER

Row = dict[str, Any]
SUFFIXES = (".jsonl", ".json")
BLOCK = 1 << 16  # bytes that are looked at together to count lines


class Rows:
    """(row number, object) of every row of a file: JSON Lines or one list of objects, told apart by content.

    A row number is the line of a JSON Lines file (blank lines count) or the position in the list, from 1. Either is read while
    the rows are taken: a line, or a block of a list, is held here at a time.

    Raises:
        DataError: the file is absent, empty, not UTF-8, not JSON, or its rows are not objects that share a column; of several
            faults, the first in the file.
    """

    def __init__(self, path: Path, *, key: str = "data.path") -> None:
        """Look at the file; `key` is the setting that names it, for messages."""
        refuse_other_than_rows(path, key)
        self.path = path
        with readable(path):
            self._is_list = _is_list(path)
            self.at_most = _count(path, b"{") if self._is_list else count_lines(path)
            """How many rows there can be; blank lines, or objects inside of rows, are counted too."""

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        with readable(self.path):
            yield from _checked(self.path, self._rows())

    def again(self) -> Iterator[Row]:
        """Yield the rows once more, without their numbers."""
        with readable(self.path):
            yield from (row for _, row in self._rows())

    def _rows(self) -> Iterator[tuple[int, Row]]:
        return _list_rows(self.path) if self._is_list else _line_rows(self.path)


def _checked(path: Path, rows: Iterator[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
    """Yield the rows; DataError at the first one that has no column of the first row, or if there is no row."""
    first: tuple[int, Row] | None = None
    for number, row in rows:
        first = first or (number, row)
        if row.keys().isdisjoint(first[1]) and row != first[1]:
            raise DataError(
                f"{path} row {number} has the columns {_names(row)}; row {first[0]} has {_names(first[1])}. "
                "One file holds one format, so none of it is read. Put the other rows in a separate file.",
                code="mixed_formats",
            )
        yield number, row
    if first is None:
        raise DataError(
            f"{path} has no rows, so there is nothing to train on. Put one JSON object on each line.", code="empty_file"
        )


def _names(row: Row) -> str:
    return ", ".join(row) or "(none)"


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the system says of a file that cannot be read into a DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). Check the file's permissions.", code="unreadable") from error


def refuse_other_than_rows(path: Path, key: str) -> None:
    """Raise DataError if there is no such file, or it cannot be a table of rows."""
    if not path.exists():
        raise DataError(f"{path} does not exist, so there are no rows to read. {place_of_rows(str(path), key)}", code="no_file")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(
            f"{path} ends in {path.suffix or 'no suffix'!r}, and only {' and '.join(SUFFIXES)} files are read. "
            f"Convert it to JSON Lines, one object per row; files in the layout of the Hub are read by directory: {key}=DIR.",
            code="unknown_suffix",
        )


def refuse_lfs_pointer(path: Path, content: bytes) -> None:
    """Raise DataError if a file's beginning shows that Git LFS has not fetched it."""
    if content.startswith(LFS_POINTER):
        raise DataError(
            f"{path} is a Git LFS pointer, not the data: the rows were never downloaded. Run `git lfs pull` in its repository.",
            code="lfs_pointer",
        )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, text without a byte-order mark); a byte that is not UTF-8 is named, never replaced.

    A line ends at a newline only, because JSON text may hold U+2028. No byte of a longer character is a newline, so that a
    line can be decoded by itself.
    """
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                refuse_lfs_pointer(path, line)
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                at = offset + error.start
                raise DataError(
                    f"{path} is not UTF-8: line {number} holds 0x{line[error.start]:02X} at byte offset {at} of the file. "
                    "Characters are never guessed, so nothing is read. Save the file as UTF-8.",
                    code="bad_encoding",
                ) from error
            yield number, text.removeprefix("\ufeff") if number == 1 else text
            offset += len(line)


def _is_list(path: Path) -> bool:
    """Return whether the first text of a file opens a list."""
    with path.open("rb") as file:
        block = file.read(BLOCK)
        refuse_lfs_pointer(path, block)
        text = block.removeprefix(codecs.BOM_UTF8).lstrip()
        while block and not text:
            block = file.read(BLOCK)
            text = block.lstrip()
    return text.startswith(b"[")


def _parse(path: Path, text: str, first_line: int) -> Any:
    """Return the JSON value of a text that begins at `first_line` of the file."""
    try:
        return json.loads(text) if text.startswith("\ufeff") else DECODER.decode(text)  # json names a mark, its decoder does not
    except json.JSONDecodeError as error:
        raise not_json(path, first_line + error.lineno - 1, syntax_reason(error, error.colno)) from error
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits, or nesting without end
        raise not_json(path, first_line, str(error)) from error


def _list_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield the rows of one list."""
    try:
        for number, (item, text) in enumerate(items_of(path), 1):
            row = _object(path, number, item)
            if _may_hold_constants(text):
                _refuse_constants(path, number, row)
            yield number, row
    except UnicodeDecodeError:
        deque(_lines(path), maxlen=0)  # names the line and the byte
        raise


def _line_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield the rows of JSON Lines."""
    if path.suffix.lower() == ".json":
        _refuse_one_object(path)
    for number, line in _lines(path):
        if line.strip():
            row = _object(path, number, _parse(path, line.removesuffix("\n"), number))
            if _may_hold_constants(line):
                _refuse_constants(path, number, row)
            yield number, row


def count_lines(path: Path) -> int:
    """Return how many lines a file has; the last one may lack its newline."""
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            count, last = count + block.count(b"\n"), block[-1:]
    return count + (last != b"\n")


def _count(path: Path, sign: bytes) -> int:
    with path.open("rb") as file:
        return sum(block.count(sign) for block in iter(lambda: file.read(BLOCK), b""))


def _refuse_one_object(path: Path) -> None:
    """Raise DataError if the whole of a .json file is one object, such as {"data": [...]}."""
    lines = list(islice((line for _, line in _lines(path) if line.strip()), 2))
    if len(lines) == 2 and _is_json(lines[0]):
        return  # JSON Lines
    try:
        value = json.loads("".join(line for _, line in _lines(path)))
    except (ValueError, RecursionError):
        return
    if isinstance(value, dict):
        raise DataError(
            f"{path}: expected a list of objects, found an object with the key {_names(value)}. "
            "Its rows cannot be told from its other contents. Write only the list, or one object per line in a .jsonl file.",
            code="bad_shape",
        )


def _object(path: Path, number: int, item: Any) -> Row:
    """Return the item if it is an object."""
    if isinstance(item, dict):
        return item
    raise DataError(
        f"{path} row {number}: expected an object, found {excerpt(item)}, which has no columns. "
        'Write each row as {"column": value, ...}.',
        code="bad_shape",
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _may_hold_constants(text: str) -> bool:
    """Return whether a search of the parsed values is worth its time."""
    return "NaN" in text or "Infinity" in text


def _refuse_constants(path: Path, number: int, row: Any) -> None:
    """Raise DataError at the first value of a row that Python reads and JSON does not have."""
    for place, name in _constants(row):
        raise DataError(
            f"{path} row {number}: {place} is {name}, which is neither JSON nor a score. "
            "Write a number, or null where it is unknown.",
            code="bad_score",
        )


def _constants(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield (where, name) for each NaN or Infinity inside a row."""
    if isinstance(value, Constant):
        yield place, str(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _constants(item, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _constants(item, f"{place}[{position}]")
