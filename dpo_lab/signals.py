"""Signals that ask the program to end: what each is called, its exit code, and what becomes of a terminal that is gone."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = {
    signal.SIGINT: (130, "Ctrl-C"),
    signal.SIGTERM: (75, "SIGTERM"),
    signal.SIGHUP: (75, "SIGHUP, since its terminal was closed"),
}
"""Exit code and name of each; 75 (EX_TEMPFAIL) is that of a run which the same command resumes."""

TERMINALS = tuple(descriptor for descriptor in (1, 2) if os.isatty(descriptor))
"""Which of stdout and stderr are a terminal as the program starts; after it is closed they no longer say so."""


def to_answer() -> "list[int]":  # in quotes: it is read before the version of Python is known
    """Return the signals to answer: a hang-up not where it is ignored, as under nohup."""
    return [number for number in STOPPING if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


class StoppedEarly(BaseException):
    """SIGTERM or SIGHUP came before the command line answers signals; its argument is the number."""


@contextmanager
def raised_early() -> "Iterator[None]":
    """Raise StoppedEarly on SIGTERM and SIGHUP while the block runs, as Python raises KeyboardInterrupt on Ctrl-C."""

    def stop(number: int, frame: "FrameType | None") -> None:
        let_go_of_terminal(number)
        raise StoppedEarly(number)

    before = {number: signal.signal(number, stop) for number in to_answer() if number != signal.SIGINT}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def let_go_of_terminal(number: int) -> None:
    """After a hang-up send what would go to the terminal nowhere: writing to one that is closed fails."""
    if number == signal.SIGHUP:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in TERMINALS:
            os.dup2(nowhere, descriptor)
        os.close(nowhere)
