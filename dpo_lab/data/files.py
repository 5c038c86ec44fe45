"""Rows of a .jsonl or .json file, or one sentence on why there are none."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dpo_lab.data.problems import DataError, excerpt
from dpo_lab.hub import LFS_POINTER

Row = dict[str, Any]
SUFFIXES = (".jsonl", ".json")


class _Constant(str):
    """NaN, Infinity or -Infinity, which Python reads and JSON does not have; marked so that its row can be named."""

    __slots__ = ()


def read_rows(path: Path) -> list[tuple[int, Row]]:
    """Return (row number, object) for every row: JSON Lines or one list of objects, told apart by content.

    A row number is the line of a JSON Lines file (blank lines count) or the position in the list, from 1.

    Raises:
        DataError: the file is absent, empty, not UTF-8, not JSON, or its rows are not objects that share a column.
    """
    text = _decode(path, _read_bytes(path))
    rows = _list_rows(path, text) if text.lstrip().startswith("[") else _line_rows(path, text)
    if not rows:
        raise DataError(
            f"{path} has no rows, so there is nothing to train on. Put one JSON object on each line.", code="empty_file"
        )
    first = rows[0][1]
    for number, row in rows:
        constant = next(_constants(row), None)
        if constant:
            raise DataError(
                f"{path} row {number}: {constant[0]} is {constant[1]}, which is neither JSON nor a score. "
                "Write a number, or null where it is unknown.",
                code="bad_score",
            )
        if row.keys().isdisjoint(first) and row != first:
            raise DataError(
                f"{path} row {number} has the columns {_names(row)}; row {rows[0][0]} has {_names(first)}. "
                "One file holds one layout, so none of it is read. Put the other rows in a file of their own.",
                code="mixed_formats",
            )
    return rows


def _names(row: Row) -> str:
    return ", ".join(row) or "(none)"


def _read_bytes(path: Path) -> bytes:
    """Return the file's bytes if there is such a file and it can be a table of rows."""
    if not path.exists():
        raise DataError(
            f"{path} does not exist, so there are no rows to read. Correct data.path (now in {Path.cwd()}).", code="no_file"
        )
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(
            f"{path} ends in {path.suffix or 'no suffix'!r}, and only {' and '.join(SUFFIXES)} files are read. "
            "Convert it to JSON Lines, one object per row; files in the layout of the Hub are read by directory: data.path=DIR.",
            code="unknown_suffix",
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). Check the file's permissions.", code="unreadable") from error
    refuse_lfs_pointer(path, content)
    return content


def refuse_lfs_pointer(path: Path, content: bytes) -> None:
    """Raise DataError if a file's beginning shows that Git LFS has not fetched it."""
    if content.startswith(LFS_POINTER):
        raise DataError(
            f"{path} is a Git LFS pointer, not the data: the rows were never downloaded. Run `git lfs pull` in its repository.",
            code="lfs_pointer",
        )


def _decode(path: Path, content: bytes) -> str:
    """Return the text without a byte-order mark; a byte that is not UTF-8 is named, never replaced."""
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} is not UTF-8: line {line} holds 0x{content[error.start]:02X} at byte offset {error.start} of the file. "
            "Characters are never guessed, so nothing is read. Save the file as UTF-8.",
            code="bad_encoding",
        ) from error


def _parse(path: Path, text: str, first_line: int) -> Any:
    """Return the JSON value of a text that begins at `first_line` of the file."""
    try:
        return json.loads(text, parse_constant=_Constant)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        found = f"{error.msg.removesuffix(' at')} at column {error.colno}"
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits, or nesting without end
        line, found = first_line, str(error)
    raise DataError(
        f"{path} line {line} is not valid JSON ({found}), so the file is not read. "
        "Correct the line, or remove it if it was cut off.",
        code="bad_json",
    )


def _list_rows(path: Path, text: str) -> list[tuple[int, Row]]:
    """Return the rows of one JSON list."""
    return [(number, _object(path, number, item)) for number, item in enumerate(_parse(path, text, 1), 1)]


def _line_rows(path: Path, text: str) -> list[tuple[int, Row]]:
    """Return the rows of JSON Lines; a line ends at a newline only, because JSON text may hold U+2028."""
    if path.suffix.lower() == ".json":
        _refuse_one_object(path, text)
    lines = enumerate(text.split("\n"), 1)
    return [(number, _object(path, number, _parse(path, line, number))) for number, line in lines if line.strip()]


def _refuse_one_object(path: Path, text: str) -> None:
    """Raise DataError if the whole of a .json file is one object, such as {"data": [...]}."""
    try:
        value = json.loads(text)
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


def _constants(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield (where, name) for each NaN or Infinity inside a row."""
    if isinstance(value, _Constant):
        yield place, str(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _constants(item, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _constants(item, f"{place}[{position}]")
