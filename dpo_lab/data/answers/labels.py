"""Which answer people prefer, where a row of two or more answers says so."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dpo_lab.data.kinds import is_empty, words_of
from dpo_lab.data.problems import RowProblem, excerpt

TIES = frozenset(("tie", "ties", "tied", "both", "draw", "equal", "neither", "none"))
LABELS = ("label", "preference", "preferred", "winner", "choice", "annotator", "human_preference", "better_response_id")
"""Names of columns with a preference, in lower case and without a number at the end (annotator1, annotator2)."""


def preferred_of(values: Mapping[str, Any], suffixes: Sequence[str], texts: Sequence[str]) -> tuple[int, ...]:
    """Return the positions of the preferred answers: one, several that tie, or none where nobody said.

    Of several columns, the preference that most of them state counts; where no one preference is the most frequent, it is a tie.

    >>> preferred_of({"annotator1": 2, "annotator2": 2, "annotator3": 0}, ("1", "2"), ("No.", "Yes."))
    (1,)

    Args:
        values: by column.
        suffixes: what the columns of the answers end in, `("1", "2")` or `("a", "b")`; empty for a list of answers.
        texts: the answers.

    Raises:
        RowProblem: a value names no answer.
    """
    votes = [
        _preferred(value if isinstance(value, list) else [value], name, suffixes, texts)
        for name, value in values.items()
        if not is_empty(value)
    ]
    counts = Counter(votes).most_common(2)
    if len(counts) == 2 and counts[0][1] == counts[1][1]:
        return tuple(range(len(texts)))
    return counts[0][0] if counts else ()


def _preferred(values: Sequence[Any], name: str, suffixes: Sequence[str], texts: Sequence[str]) -> tuple[int, ...]:
    positions = [position_of(value, suffixes, texts) for value in values]
    if None in positions:
        known = f"{', '.join(suffixes)} or tie" if suffixes else "the answer's text, its position counted from 0, or tie"
        raise RowProblem("wrong_type", f"{name} is {excerpt(values[positions.index(None)])}, not {known}", verdict="drop")
    found = [position for position in positions if position is not None]
    return tuple(range(len(texts))) if -1 in found else tuple(sorted(set(found)))


def position_of(value: Any, suffixes: Sequence[str], texts: Sequence[str]) -> int | None:
    """Return the position that a value names, -1 for a tie, None if it names none.

    >>> [position_of(value, ("1", "2"), ("a", "b")) for value in (1, 2.0, 0, "output_2", "tie", 1.7, 3)]
    [0, 1, -1, 1, -1, 1, None]
    >>> [position_of(value, ("a", "b"), ("x", "y")) for value in ("a-is-slightly-better", "model_b", "A", True)]
    [0, 1, 0, None]
    """
    if isinstance(value, str) and value.strip().replace(".", "", 1).isdigit():
        value = float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _numbered(float(value), suffixes, len(texts))
    if not isinstance(value, str):
        return None
    if value in texts:
        return texts.index(value)
    if value.strip().lower() in suffixes:
        return suffixes.index(value.strip().lower())
    words = words_of(value)
    if not TIES.isdisjoint(words):
        return -1
    named = [position for position, suffix in enumerate(suffixes) if suffix in words]
    return named[0] if len(named) == 1 else None


def _numbered(value: float, suffixes: Sequence[str], count: int) -> int | None:
    """Return the position of a number: one of the suffixes, between 1 and 2 the nearer one; 0 is a tie unless an answer is."""
    if not suffixes:
        return int(value) if value.is_integer() and 0 <= value < count else None
    if value.is_integer() and str(int(value)) in suffixes:
        return suffixes.index(str(int(value)))
    if value == 0 and all(suffix.isdigit() for suffix in suffixes):
        return -1
    between = tuple(suffixes) == ("1", "2") and 1 < value < 2
    return (-1 if value == 1.5 else int(value > 1.5)) if between else None
