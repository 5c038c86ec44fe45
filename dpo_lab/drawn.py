"""What a model drew: the tokens of a response and their log-probabilities, and how both are written as plain data."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """The tokens of a response that a model drew, and what the model said of each: eight bytes a token."""

    ids: "array[int]" = field(hash=False)
    """Its end token included, if it ended by itself."""
    logps: "array[float]" = field(hash=False)
    """Natural logarithm of the model's own probability of each token, before temperature and filters, float32."""

    @classmethod
    def of(cls, ids: Sequence[int], logps: Sequence[float]) -> "Drawn":
        """Return the drawn response of plain numbers.

        >>> Drawn.of([5, 1], [-0.5, -2.0]).ids.tolist()
        [5, 1]
        """
        if len(ids) != len(logps):
            raise ValueError(f"{len(ids)} tokens with {len(logps)} log-probabilities")
        return cls(ids=array("i", ids), logps=array("f", logps))


def rounded(values: Iterable[float]) -> list[float]:
    """Return numbers of float32 with the nine digits that tell each from its neighbours.

    >>> array("f", rounded(array("f", [-1 / 3, 1e-30]))) == array("f", [-1 / 3, 1e-30])
    True
    """
    return [float(f"{value:.9g}") for value in values]


def tokens_of(drawn: Sequence[Drawn | None]) -> dict[str, Any]:
    """Return token ids and log-probabilities as plain data, null for a response that no model drew; nothing if none was."""
    names = {
        "token_ids": [answer.ids.tolist() if answer else None for answer in drawn],
        "logps": [rounded(answer.logps) if answer else None for answer in drawn],
    }
    return names if drawn else {}


def drawn_in(record: dict[str, Any]) -> tuple[Drawn | None, ...]:
    """Return what `tokens_of` has written."""
    both = zip(record.get("token_ids", ()), record.get("logps", ()), strict=True)
    return tuple(None if ids is None else Drawn.of(ids, logps) for ids, logps in both)
