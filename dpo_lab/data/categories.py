"""What a column says of rows, for tables by category."""

from collections.abc import Iterable, Iterator
from typing import Any

from dpo_lab.components import ConfigError
from dpo_lab.data.columns import ABSENT, paths_in, value_at
from dpo_lab.data.kinds import is_empty

Row = dict[str, Any]
NONE = "(none)"
"""The category of a row without a value."""


def text_of(value: Any) -> str:
    """Return the category that a value of a row stands for.

    >>> text_of("math"), text_of(3), text_of(None)
    ('math', '3', '(none)')
    """
    return NONE if is_empty(value) else str(value)


def labelled(rows: Iterable[tuple[str, int, Row]], column: str, place: str) -> Iterator[tuple[str, int, Row, str]]:
    """Yield rows with the category of each.

    Args:
        column: a name, or a dotted path.
        place: what the rows are called in messages.

    Raises:
        ConfigError: if no row has the column.
    """
    known: dict[str, None] = {}
    found = False
    for source, number, row in rows:
        value = value_at(row, column)
        found = found or value is not ABSENT
        known.update(dict.fromkeys(paths_in(row)) if not found else {})
        yield source, number, row, text_of(None if value is ABSENT else value)
    if not found:
        raise ConfigError(f"category={column}: {place} has no such column; it has {', '.join(known)}. Name one of these.")
