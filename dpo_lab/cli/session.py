"""One call of the program: its jobs, how each ended, exit codes and messages of failures."""

import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dpo_lab.cli.messages import system_message
from dpo_lab.cli.places import with_absent_places
from dpo_lab.comparison.jobs import JOBS
from dpo_lab.copying import UNBROKEN, copyable, unbroken
from dpo_lab.folding import folded
from dpo_lab.signals import STOPPING

if TYPE_CHECKING:
    from dpo_lab.comparison.conclude import Conclusion
    from dpo_lab.progress import Part

ERROR, USAGE = 1, 2


class Stopped(BaseException):
    """A signal asked the program to end. No KeyboardInterrupt, which Lightning answers with its own exit code."""

    received: ClassVar[int | None] = None
    """The last signal: an import that it interrupts may fail with its own error instead."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code, self.how = STOPPING[signal.Signals(number)]


class OutputClosed(BaseException):
    """Nobody reads stdout any more. Not an Exception, which Hydra would report as one of the job."""


@dataclass
class Job:
    """One run of a stage, and how it ended."""

    overrides: str
    code: int | None = None
    """Exit code; None while it runs."""
    ended: str = "finished"
    """How, if the code is 0: `pruned` if a search ended it early, `waiting` if it waits for others; the message says why."""
    message: str = ""
    figure: tuple[str, float] | None = None
    """Name and value of the figure by which runs are compared."""
    directory: str | None = None
    """Of its run; None for a stage without one, or before it is known."""


@dataclass
class Session:
    """What one call of the program has done so far."""

    outputs: str
    jobs: list[Job] = field(default_factory=list)
    """Of this process; a launcher may run others elsewhere."""
    sweep: str | None = None
    """The directory of the sweep that this call runs; None for a single run."""

    num_jobs: int = 0
    """Of the sweep."""
    progress: "Part | None" = None
    """Of the jobs in this process."""

    @property
    def began(self) -> bool:
        """Return whether some job has begun, in this process or in one of a launcher."""
        return bool(self.jobs) or (self.sweep is not None and (Path(self.sweep) / JOBS).exists())


def complain(message: str, code: int) -> int:
    """Write a message to stderr, with settings as they are typed, and return the exit code; a terminal gets whole words."""
    said = f"error: {copyable(with_absent_places(message) if code == USAGE else message)}"
    sys.stderr.write(f"{folded(unbroken(said)).replace(UNBROKEN, ' ') if sys.stderr.isatty() else said}\n")
    return code


def answer(error: Exception, outputs: str) -> tuple[int, str]:
    """Return exit code and message of a failure; the message is empty if only a traceback, printed here, says it."""
    if Stopped.received is not None:
        raise Stopped(Stopped.received)
    from omegaconf.errors import OmegaConfBaseException

    from dpo_lab.cli.build import dangling_message
    from dpo_lab.components import ConfigError, RunError
    from dpo_lab.data.problems import DataError

    if isinstance(error, ConfigError):
        return USAGE, str(error)
    if isinstance(error, DataError | RunError):
        return ERROR, str(error)
    if isinstance(error, OmegaConfBaseException):  # ${...} that leads nowhere, read before a stage is built
        return USAGE, dangling_message(error, {})
    if message := system_message(error, outputs):
        return ERROR, message
    traceback.print_exception(error)
    return ERROR, ""


def ending(session: Session) -> int:
    """Return the exit code; after a sweep, write its files and show how its jobs ended and how their figures compare."""
    if session.sweep is None:
        failed = [job for job in session.jobs if job.code != 0]
        return failed[0].code or ERROR if failed else 0
    ended = concluded(session.sweep)
    if ended.unfinished:
        number = f"{len(ended.unfinished)} of {len(ended.runs)} jobs"
        return complain(f"{number} did not finish; the lines above say why. The same command runs what is missing.", ERROR)
    return 0


def concluded(sweep: str) -> "Conclusion":
    """Write the files of a sweep and show how its jobs ended."""
    from dpo_lab.comparison.conclude import conclude

    ended = conclude(Path(sweep))
    show(ended.lines)
    return ended


def show(lines: Sequence[str]) -> None:
    """Write lines to stdout as they fit the terminal."""
    from dpo_lab.progress import fitting

    sys.stdout.write("".join(f"{fitting(copyable(line))}\n" for line in lines))
    sys.stdout.flush()


def show_what_ended(session: Session) -> None:
    """After a stop, write the files of a sweep and show its table as far as it came; nothing of a single run."""
    if session.sweep is None or not session.began:
        return
    with suppress(Exception, KeyboardInterrupt, Stopped):  # the stop is what has to be answered; a second one ends it
        concluded(session.sweep)
