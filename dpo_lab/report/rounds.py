"""The table of a run by round, for the screen and for the page: each figure of the table of figures that has a value by round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpo_lab import folding
from dpo_lab.amounts import short
from dpo_lab.figures import Figure, has_rounds

WIDTH = 80
"""Columns of the screen, unless the terminal is narrower."""


@dataclass(frozen=True)
class Value:
    """What one round, or the model before training, has of a figure."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Row:
    """One figure, round by round."""

    figure: Figure
    before: Value | None
    rounds: Mapping[int, Value]
    """By the number of the round; a round that does not have it is absent."""


def rows_by_round(figures: Sequence[Figure], summary: Mapping[str, Any]) -> list[Row]:
    """Return the figures of which the summary has a value in some round, in their order."""
    found = []
    for figure in figures:
        if rounds := {number: _value(summary, f"{figure.name}/round_{number}") for number in has_rounds(summary, figure.name)}:
            before = summary.get(f"{figure.name}/before", figure.start)
            found.append(Row(figure, None if before is None else Value(before), rounds))
    return found


def rounds_lines(figures: Sequence[Figure], summary: Mapping[str, Any]) -> list[str]:
    """Return the table for the screen, at most 80 columns wide; more rounds than fit stand below, with the figures again.

    Shares have their intervals, so that three rounds fit; the page has those of all figures.
    """
    rows = rows_by_round(figures, summary)
    numbers = sorted({number for row in rows for number in row.rounds})
    columns = [["before", *(_cell_of(row, row.before) for row in rows)]] if any(row.before for row in rows) else []
    columns += [[f"round {number}", *(_cell_of(row, row.rounds.get(number)) for row in rows)] for number in numbers]
    labels = ["rounds", *(f"  {row.figure.by_round or row.figure.row or row.figure.title}" for row in rows)]
    return [line for block in _blocks(columns, _width(labels)) for line in _lines([labels, *block])] if rows else []


def cell_text(value: Value | None, digits: int) -> str:
    """Return a value as the screen shows it, with its interval.

    >>> cell_text(Value(0.957, 0.938, 0.97), 2), cell_text(Value(21.34), 1), cell_text(Value(0.0), 2), cell_text(None, 2)
    ('.96 [.94, .97]', '21.3', '0', '-')
    """
    if value is None:
        return "-"
    if value == Value(0.0):
        return "0"
    ends = [_rounded(end, digits) for end in (value.low, value.high) if end is not None]
    return f"{_rounded(value.value, digits)} [{', '.join(ends)}]" if len(ends) == 2 else _rounded(value.value, digits)


def _cell_of(row: Row, value: Value | None) -> str:
    has_interval = value is not None and row.figure.unit == "share"
    tied = " all tied" if value is not None and row.figure.all_tied(value.value, value.low) else ""
    return cell_text(value if has_interval or value is None else Value(value.value), row.figure.digits) + tied


def _rounded(value: float, digits: int) -> str:
    return short(value, digits) if digits > 1 else f"{value:z.{digits}f}"


def _value(summary: Mapping[str, Any], key: str) -> Value:
    return Value(summary[key], summary.get(f"{key}/low"), summary.get(f"{key}/high"))


def _blocks(columns: Sequence[list[str]], taken: int) -> list[list[list[str]]]:
    """Return the columns in groups that fit beside the labels; a group has one column at least."""
    blocks: list[list[list[str]]] = [[]]
    for column in columns:
        width = taken + sum(2 + _width(block) for block in (*blocks[-1], column))
        if blocks[-1] and width > min(WIDTH, folding.width()):
            blocks.append([])
        blocks[-1].append(column)
    return blocks


def _lines(columns: Sequence[Sequence[str]]) -> list[str]:
    widths = [_width(column) for column in columns]
    rows = zip(*columns, strict=True)
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _width(column: Sequence[str]) -> int:
    return max(map(len, column))
