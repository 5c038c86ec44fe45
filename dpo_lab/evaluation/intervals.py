"""From what was observed of single answers or pairs to figures with intervals, and to lines of a file and back."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dpo_lab.evaluation.statistics import Observed, mean_of, share_of

OBSERVED = "observed.jsonl"
"""The file of a measurement that holds these lines."""
Observations = Mapping[str, Observed]
"""What was observed of single pairs or answers, by the name of the figure that is their mean."""


def observed_by(values: Mapping[str, Sequence[float]], prompts: Sequence[str]) -> dict[str, Observed]:
    """Return numbers of the same answers or pairs with their prompts; a figure of which one is not finite is left out."""
    return {name: Observed(each, prompts) for name, each in values.items() if np.isfinite(np.asarray(each, dtype=float)).all()}


def intervals_of(observed: Observations, shares: Collection[str] = ()) -> dict[str, float]:
    """Return NAME/low and NAME/high of every figure whose interval means something.

    Args:
        shares: the figures that are shares of outcomes from 0 to 1.

    >>> found = intervals_of(observed_by({"win_rate": [1.0, 0.0, 1.0, 1.0], "kl": [2.0] * 4}, "abcd"), shares=["win_rate"])
    >>> {name: round(value, 2) for name, value in found.items()}
    {'win_rate/low': 0.3, 'win_rate/high': 0.95}
    """
    ends: dict[str, float] = {}
    for name, each in observed.items():
        figures = (share_of if name in shares else mean_of)(each).figures(name)
        ends |= {end: value for end, value in figures.items() if end != name}
    return ends


def records_of(observed: Observations) -> Iterator[dict[str, Any]]:
    """Yield one line per answer or pair: its prompt, and its numbers by the name of the figure.

    Figures of the same answers or pairs share their lines. A number that is a sum stands with its count: [sum, count].
    """
    together: dict[tuple[str | int, ...], list[str]] = {}
    for name, each in observed.items():
        together.setdefault(tuple(each.prompts), []).append(name)
    for prompts, names in together.items():
        for at, prompt in enumerate(prompts):
            yield {"prompt_id": prompt, **{name: _number(observed[name], at) for name in names}}


def observed_in(records: Iterable[Mapping[str, Any]]) -> dict[str, Observed]:
    """Return what `records_of` has written."""
    found: dict[str, list[tuple[str, Any]]] = {}
    for record in records:
        for name, value in record.items():
            if name != "prompt_id":
                found.setdefault(name, []).append((record["prompt_id"], value))
    return {name: _observed(rows) for name, rows in found.items()}


def _number(observed: Observed, at: int) -> float | list[float]:
    value = float(observed.values[at])
    return value if observed.counts is None else [value, float(observed.counts[at])]


def _observed(rows: Sequence[tuple[str, Any]]) -> Observed:
    prompts = [prompt for prompt, _ in rows]
    if isinstance(rows[0][1], list):
        return Observed([value[0] for _, value in rows], prompts, [value[1] for _, value in rows])
    return Observed([value for _, value in rows], prompts)
