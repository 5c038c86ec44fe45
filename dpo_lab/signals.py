"""Signals that ask the program to end: what each is called, its exit code, and what becomes of a terminal that is gone."""

import os
import signal

STOPPING = {
    signal.SIGINT: (130, "Ctrl-C"),
    signal.SIGTERM: (75, "SIGTERM"),
    signal.SIGHUP: (75, "SIGHUP, since its terminal was closed"),
}
"""Exit code and name of each; 75 (EX_TEMPFAIL) is that of a run which the same command resumes."""

TERMINALS = tuple(descriptor for descriptor in (1, 2) if os.isatty(descriptor))
"""Which of stdout and stderr are a terminal as the program starts; after it is closed they no longer say so."""


def to_answer() -> list[int]:
    """Return the signals to answer: a hang-up not where it is ignored, as under nohup."""
    return [number for number in STOPPING if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


def let_go_of_terminal(number: int) -> None:
    """After a hang-up send what would go to the terminal nowhere: writing to one that is closed fails."""
    if number == signal.SIGHUP:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in TERMINALS:
            os.dup2(nowhere, descriptor)
        os.close(nowhere)
