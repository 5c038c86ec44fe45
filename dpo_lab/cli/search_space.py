"""What a search may choose: the values of each swept key, as a sampler draws them and as an override says them."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpo_lab.cli.arguments import UsageError
from dpo_lab.plain_data import as_typed

if TYPE_CHECKING:
    import optuna

MOST_CORNERS = 64
INNER = 0.382  # how far into an interval a point is tried: no round number comes out
DIGITS = 4
"""Significant digits of a value from an interval: names of runs stay readable."""


class SpaceError(UsageError):
    """A search whose space cannot be searched; the message is all that the user sees."""


@dataclass(frozen=True)
class Choice:
    """One of several values: loss=dpo,ipo, seed=range(3), or choice(...)."""

    texts: tuple[str, ...]

    def draw(self, trial: "optuna.Trial", key: str) -> str:
        """Return the value of a trial as an override says it; numbers are numbers to the sampler."""
        return self.texts[self.values.index(trial.suggest_categorical(key, self.values))]

    @property
    def values(self) -> list[Any]:
        """The values as the study keeps them, all numbers or all texts."""
        numbers = [_number(text) for text in self.texts]
        return list(self.texts) if None in numbers or len(set(numbers)) < len(numbers) else numbers

    def value_of(self, text: str) -> Any:
        """Return one of the values as the study keeps it."""
        return self.values[self.texts.index(text)]

    @property
    def ends(self) -> tuple[str, ...]:
        """The values that have to be tried to know that all can run."""
        return self.texts


@dataclass(frozen=True)
class Interval:
    """A number between two others: interval(1e-5,1e-3), tag(log,interval(...)); a whole one: int(interval(1,8))."""

    low: float
    high: float
    log: bool

    def draw(self, trial: "optuna.Trial", key: str) -> str:
        """Return the value of a trial as an override says it."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return str(trial.suggest_int(key, self.low, self.high, log=self.log))
        drawn = trial.suggest_float(key, self.low, self.high, log=self.log)
        short = f"{drawn:.{DIGITS}g}"
        return short if self.low <= float(short) <= self.high else repr(drawn)

    @property
    def ends(self) -> tuple[str, ...]:
        """The values that have to be tried to know that all can run."""
        return (as_typed(self.low), as_typed(self.high))

    @property
    def within(self) -> str:
        """A value between the ends, a whole one only if all are: a key that takes no others may accept 1.0."""
        inner = self.low + INNER * (self.high - self.low)
        return str(round(inner)) if isinstance(self.low, int) and isinstance(self.high, int) else f"{inner:.{DIGITS}g}"


Space = Mapping[str, Choice | Interval]


def space_of(overrides: Sequence[Any]) -> tuple[Space, list[str]]:
    """Return what parsed overrides leave open, by key, and the others as they were written; a later one of a key counts.

    Raises:
        SpaceError: if nothing is left open, or in a way that cannot be searched.
    """
    last = {override.get_key_element(): override for override in overrides}
    space = {key: _dimension(each) for key, each in last.items() if each.is_sweep_override()}
    if not space:
        raise SpaceError("a search needs a key with several values or an interval, for instance recipe.beta=0.1,0.3,1.")
    return space, [override.input_line for override in last.values() if not override.is_sweep_override()]


def _dimension(override: Any) -> Choice | Interval:
    value, said = override.value(), override.input_line
    if not override.is_interval_sweep():
        return Choice(tuple(dict.fromkeys(override.sweep_string_iterator())))
    tags = set(value.tags) - {"log"}
    if tags:
        raise SpaceError(f"{said}: tag({', '.join(sorted(tags))}, ...) is not known. An interval takes the tag log.")
    low, high, log = value.start, value.end, "log" in value.tags
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise SpaceError(f"{said}: an interval goes from a lower to a higher number.")
    if log and low <= 0:
        raise SpaceError(f"{said}: a logarithmic interval begins above 0.")
    return Interval(low, high, log)


def points(space: Space) -> list[dict[str, str]]:
    """Return all points of a grid in their order.

    Raises:
        SpaceError: if a key has an interval.
    """
    for key, dimension in space.items():
        if isinstance(dimension, Interval):
            raise SpaceError(f"{key} is an interval, and a grid needs values: {key}=A,B,C, or hydra.sweeper.sampler=tpe.")
    values = (dimension.texts for dimension in space.values() if isinstance(dimension, Choice))
    return [dict(zip(space, point, strict=True)) for point in itertools.product(*values)]


def corners(space: Space) -> Iterator[dict[str, str]]:
    """Yield points that can run only if all can, as far as parts do not refuse values between two that they accept.

    All combinations of ends and choices where these are few, else every one of them once; and a point within the intervals.

    >>> list(corners({"beta": Interval(0.1, 1.0, False), "loss": Choice(("dpo",))}))
    [{'beta': '0.1', 'loss': 'dpo'}, {'beta': '1.0', 'loss': 'dpo'}, {'beta': '0.4438', 'loss': 'dpo'}]
    """
    yield from _ends_of(space)
    if any(isinstance(dimension, Interval) for dimension in space.values()):
        yield {
            key: dimension.within if isinstance(dimension, Interval) else dimension.texts[0] for key, dimension in space.items()
        }


def _ends_of(space: Space) -> Iterator[dict[str, str]]:
    if math.prod(len(dimension.ends) for dimension in space.values()) <= MOST_CORNERS:
        for point in itertools.product(*(dimension.ends for dimension in space.values())):
            yield dict(zip(space, point, strict=True))
        return
    longest = max(len(dimension.ends) for dimension in space.values())
    for number in range(longest):
        yield {key: dimension.ends[number % len(dimension.ends)] for key, dimension in space.items()}


def _number(text: str) -> float | int | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None
