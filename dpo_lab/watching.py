"""A run that is watched while it works: a search hears of its figures, and ends a run that is behind others."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Watch = Callable[[Mapping[str, Any], int, int], None]
"""Takes the figures of a policy, the optimizer steps of all rounds so far, and how many there will be."""
_watch: ContextVar[Watch | None] = ContextVar("_watch", default=None)


class BehindError(Exception):
    """The run is behind others after as much training, so that it ends here; the message says by what."""


class WaitingError(BehindError):
    """The run waits until others have had as much training; the same command continues it if it is among the best then."""


@contextmanager
def watched_by(watch: Watch) -> Iterator[None]:
    """Tell `watch` the figures of the runs within the block."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


def is_watched() -> bool:
    """Return whether somebody is told."""
    return _watch.get() is not None


def show(figures: Mapping[str, Any], step: int, steps: int) -> None:
    """Tell the figures of a policy after `step` of `steps` optimizer steps to whom it concerns.

    Raises:
        BehindError: if the run is to end here.
    """
    if watch := _watch.get():
        watch(figures, step, steps)
