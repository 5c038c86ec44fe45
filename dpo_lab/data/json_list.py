"""The items of a file that is one JSON list, parsed one after the other: a part of the text is held here, never the list."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dpo_lab.data.problems import DataError

BLOCK = 1 << 20  # bytes that are read together; more where one item needs them
EDGE = 16  # characters: no word or number of JSON that a block's end cuts is refused further from that end
SPACE = re.compile(r"[ \t\n\r]*")


class Constant(str):
    """NaN, Infinity or -Infinity, which Python reads and JSON does not have; marked so that its row can be named."""

    __slots__ = ()


DECODER = json.JSONDecoder(parse_constant=Constant)


def not_json(path: Path, line: int, reason: str) -> DataError:
    """Return the error of a file with text that is not JSON."""
    return DataError(
        f"{path} line {line} is not valid JSON ({reason}), so the file is not read. "
        "Correct the line, or remove it if it was cut off.",
        code="bad_json",
    )


def syntax_reason(error: json.JSONDecodeError, column: int) -> str:
    """Return what the library says of a fault, and where in its line."""
    return f"{error.msg.removesuffix(' at')} at column {column}"


def items_of(path: Path) -> Iterator[tuple[Any, str]]:
    """Yield each item of a file that holds one list, with its text.

    Raises:
        DataError: the text is not JSON, or something follows the list.
        UnicodeDecodeError: the file is not UTF-8.
    """
    with path.open("rb") as file:
        window = _Window(file)
        try:
            yield from window.items()
        except json.JSONDecodeError as error:
            raise not_json(path, window.line(error.pos), syntax_reason(error, window.column(error.pos))) from error
        except (ValueError, RecursionError) as error:  # an integer of thousands of digits, or nesting without end
            if isinstance(error, UnicodeDecodeError):
                raise
            raise not_json(path, window.line(window.at), str(error)) from error


class _Window:
    """The part of a file's text that is not parsed yet, from a little before `at` on."""

    def __init__(self, file: Any) -> None:
        self.file, self.decoder = file, codecs.getincrementaldecoder("utf-8-sig")()
        self.text, self.at = "", 0
        self.lines, self.columns = 0, 0  # lines that are left behind, and characters of the line that the text begins in

    def items(self) -> Iterator[tuple[Any, str]]:
        """Yield (item, its text) up to the end of the list; JSONDecodeError at the first fault."""
        self.next_sign()  # the bracket
        self.at += 1
        if self.next_sign() == "]":
            self.at += 1
        else:
            yield self.value()
            while (sign := self.next_sign()) != "]":
                if sign != ",":
                    raise json.JSONDecodeError("Expecting ',' delimiter", self.text, self.at)
                self.at += 1
                self.next_sign()
                yield self.value()
            self.at += 1
        if self.next_sign():
            raise json.JSONDecodeError("Extra data", self.text, self.at)

    def next_sign(self) -> str:
        """Move to the next character that is not white space and return it; empty at the end of the file."""
        while True:
            match = SPACE.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text) or not self.more():
                return self.text[self.at : self.at + 1]

    def value(self) -> tuple[Any, str]:
        """Return the value at this place and its text, and move behind it."""
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                may_be_cut = error.pos + EDGE >= len(self.text) or error.msg.startswith("Unterminated string")
                if not (may_be_cut and self.more()):
                    raise
                continue
            if end < len(self.text) or not self.more():  # at the end of what is read, a number may have more digits
                text, self.at = self.text[self.at : end], end
                return value, text

    def more(self) -> bool:
        """Leave behind what is parsed and read as much again, at least a block; return whether there was more."""
        block = self.file.read(max(BLOCK, len(self.text) - self.at))
        text = self.decoder.decode(block, final=not block)
        if not block:
            return False
        last = self.text.rfind("\n", 0, self.at)
        self.columns = self.at - last - 1 if last >= 0 else self.columns + self.at
        self.lines += self.text.count("\n", 0, self.at)
        self.text, self.at = self.text[self.at :] + text, 0
        return True

    def line(self, place: int) -> int:
        """Return the number of the line in the file of a place in the text, from 1."""
        return self.lines + self.text.count("\n", 0, place) + 1

    def column(self, place: int) -> int:
        """Return the column in its line of a place in the text, from 1."""
        last = self.text.rfind("\n", 0, place)
        return place - last if last >= 0 else self.columns + place + 1
