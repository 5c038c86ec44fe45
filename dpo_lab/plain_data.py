"""Nested plain data in one level, under dotted keys, and values as they are typed on the command line."""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

LARGE = 1e6
"""From here on a whole number is typed with an exponent."""


def leaves(node: Any, key: str = "", *, empty: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) for every value below a node.

    Args:
        empty: whether a mapping without keys is a value.

    >>> dict(leaves({"loss": {"beta": 0.1}, "tags": ["a"], "logger": {}}))
    {'loss.beta': 0.1, 'tags': ['a']}
    """
    if not isinstance(node, Mapping) or (empty and key and not node):
        yield key, node
        return
    for name, value in node.items():
        yield from leaves(value, f"{key}.{name}" if key else str(name), empty=empty)


def as_typed(value: Any) -> str:
    """Return a value as one types it on the command line.

    >>> as_typed(None), as_typed(True), as_typed(0.5), as_typed(["a", "b"])
    ('null', 'true', '0.5', '[a,b]')
    >>> as_typed(1e9), as_typed(-2.5e7), as_typed(1e-5), as_typed(120000.0)
    ('1e9', '-2.5e7', '1e-5', '120000.0')
    """
    if type(value) is float:
        return _as_typed_number(value)
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(as_typed(item) for item in value)}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{name}:{as_typed(item)}' for name, item in value.items())}}}"
    return str(value) if isinstance(value, str | int | float) else type(value).__name__


def _as_typed_number(value: float) -> str:
    """Return a number as short as one types it: a large whole one and a small one with an exponent."""
    text = f"{Decimal(repr(value)).normalize():e}" if value.is_integer() and abs(value) >= LARGE else repr(value)
    return re.sub(r"e([+-])0*(?=\d)", lambda sign: f"e{sign[1].strip('+')}", text)
