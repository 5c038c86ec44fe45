"""What a person sees while a part works: a live line on a terminal, a plain line now and then elsewhere."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.errors import LiveError
from rich.live import Live
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task
from rich.table import Column, Table
from rich.text import Text

from dpo_lab.folding import folded

EVERY_SECONDS = 15.0  # how often a log file (no terminal) gets a line
BAR, NARROWEST_BAR = 24, 8  # characters of the bar where there is room, and the fewest that still show something
NARROWEST_COLUMN = 28  # characters of a text beside another one: 60 hold two
GAP = "  "  # between the figures that a part hands on, and between what stands in a line


class _Output(Console):
    def on_broken_pipe(self) -> None:
        """Let the command line say why the program ends; the library would end it at once without a word."""
        raise BrokenPipeError


console = _Output(highlight=False)
COMMAND = re.compile(r"(?:^|\s)(?:python \S+\.py|dpo-lab [a-z_]+)(?: \S|$)")


_copy: ContextVar[TextIO | None] = ContextVar("_copy", default=None)
"""A file that gets every line too: the log of a job."""


QUIET = "DPO_LAB_QUIET"
"""Set for a program that is called with --quiet, and for the workers of its launcher."""


def is_quiet() -> bool:
    """Return whether no progress is shown, and of a sweep no line of its jobs, which their logs have."""
    return bool(os.environ.get(QUIET))


def say(*lines: str) -> None:
    """Print lines as they are: square brackets in them are text, and not the library's markup."""
    for line in lines:
        copy = _copy.get()
        if not (copy and is_quiet()):
            console.print(fitting(line), markup=False, soft_wrap=True)
        if copy:
            copy.write(f"{line}\n")
            copy.flush()


_said: set[str] = set()
"""What `say_once` has said."""


def say_once(line: str) -> None:
    """Print a line that holds for a whole run, unless this process, or this job of a sweep, has printed it already."""
    if line not in _said:
        _said.add(line)
        say(line)


def fitting(text: str) -> str:
    """Return lines as they are printed: folded on a terminal, but whole if they hold a command, which is copied in one piece.

    The library would break at a blank that must not break, as in `95 %`.
    """
    if not console.is_terminal:
        return text
    lines = text.split("\n")
    return "\n".join(
        line if COMMAND.search(line) or cell_len(line) != len(line) else folded(line, console.width) for line in lines
    )


@contextmanager
def copied_to(path: Path) -> Iterator[TextIO]:
    """Write what is said while the block runs into a file too, and give the file."""
    with path.open("w", encoding="utf-8", errors="replace") as file:
        token = _copy.set(file)
        _said.clear()
        try:
            yield file
        finally:
            _copy.reset(token)


def is_live() -> bool:
    """Return whether the output is a terminal that can rewrite a line; TERM=dumb cannot."""
    return console.is_terminal and not console.is_dumb_terminal


_sweep: ContextVar["Part | None"] = ContextVar("_sweep", default=None)
"""The jobs of the sweep to which the parts that are shown belong."""


@contextmanager
def job_of(sweep: "Part | None") -> Iterator[None]:
    """Show the progress of a sweep above that of the parts of one of its jobs, while the block runs it."""
    token = _sweep.set(sweep)
    try:
        yield
    finally:
        _sweep.reset(token)
        if sweep:
            sweep.advance()


class Part:
    """The progress of one part; `advance` is cheap enough for every batch."""

    def __init__(self, name: str, total: int, live: bool = False) -> None:
        self.name, self.total, self.done, self.figures = name, total, 0, ""
        self._live, self._worked, self._began = live, 0, time.monotonic()
        self._next_line = self._began + EVERY_SECONDS

    def advance(self, count: int = 1, figures: str = "", *, resumed: bool = False) -> None:
        """Count work done and show the newest figures, such as `loss 0.41  margin 1.20`.

        Args:
            resumed: an earlier process did this work, so it says nothing about the speed of this one.
        """
        self.done += count
        self._worked += 0 if resumed else count
        self.figures = figures
        if not self._live and time.monotonic() >= self._next_line and not is_quiet():
            self._next_line = time.monotonic() + EVERY_SECONDS
            sweep = _sweep.get()
            of_sweep = f"{sweep.name} {sweep.done + 1}/{sweep.total}" if sweep and sweep is not self else ""
            say(f"  {GAP.join(piece for piece in (of_sweep, self.name, self._counts(), figures) if piece)}")

    def line(self, width: int, *, ascii_only: bool = False) -> str:
        """Return the part in at most `width` characters: name, count and time left always, then figures, then a bar.

        The name is cut before the count is; figures that do not fit are left out from the end.
        """
        counts = self._counts()
        name = self.name if len(self.name) + len(counts) + 1 <= width else self.name[: max(0, width - len(counts) - 2)] + "~"
        room = width - len(name) - len(counts) - 1
        shown: list[str] = []
        for figure in self.figures.split(GAP) if self.figures else ():
            if len(figure) + len(GAP) > room:
                break
            shown.append(figure)
            room -= len(figure) + len(GAP)
        bar = _bar(self.done, self.total, min(BAR, room - 1), ascii_only) if room > NARROWEST_BAR else ""
        return " ".join(piece for piece in (name, bar, GAP.join((counts, *shown))) if piece)[: max(width, 0)]

    def _counts(self) -> str:
        """Return the units done, and the time left once the speed is known."""
        counts = f"{self.done}/{self.total}"
        if not self._worked or self.done >= self.total:
            return counts
        left = (time.monotonic() - self._began) / self._worked * (self.total - self.done)
        return f"{counts}{GAP}{clock(left)} left"


def clock(seconds: float) -> str:
    """Return a duration as a clock shows it.

    >>> clock(9.6), clock(200), clock(7384)
    ('0:10', '3:20', '2:03:04')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _bar(done: int, total: int, width: int, ascii_only: bool) -> str:
    filled = width * min(done, total) // max(total, 1)
    full, empty = ("#", "-") if ascii_only else ("━", "╌")
    return full * filled + empty * (width - filled)


class _Lines(ProgressColumn):
    """The line of a sweep, and below it that of a part of its current job."""

    def __init__(self, sweep: Part | None, part: Part) -> None:
        super().__init__(Column(no_wrap=True))
        self.parts = [shown_part for shown_part in (sweep, part) if shown_part]

    def render(self, task: Task) -> Text:
        """Return the lines; the spinner before them takes two columns."""
        lines = (each.line(console.width - 2, ascii_only=console.options.ascii_only) for each in self.parts)
        return Text("\n".join(lines))


@contextmanager
def part(name: str, total: int) -> Iterator[Part]:
    """Show the progress of a part of `total` units while the block runs; the live line leaves no trace behind."""
    shown = Part(name, total, live=is_live())
    if not is_live() or is_quiet():
        yield shown
        return
    with ExitStack() as stack:
        with suppress(LiveError):  # rich before 14.1 shows one line at a time: a part within a part then works unseen
            lines = _Lines(_sweep.get(), shown)
            live = stack.enter_context(Progress(SpinnerColumn(), lines, console=console, transient=True))
            live.add_task(name, total=None)
        yield shown


@contextmanager
def side_by_side(names: Sequence[str]) -> Iterator[Callable[[Sequence[str]], None]]:
    """Yield what shows texts under their names as they grow: side by side where there is room, else one below the other.

    Where nothing can be shown live (a file, a pipe), each text is printed once, behind its name, when the block ends.
    """
    newest: list[str] = [""] * len(names)

    def table() -> Table:
        beside = console.width >= NARROWEST_COLUMN * len(names) + 2 * (len(names) - 1)
        grid = Table.grid(padding=(0, 1), expand=True)
        for _ in names if beside else names[:1]:
            grid.add_column(ratio=1, overflow="fold")
        rows = [(Text(name, style="bold"), Text(text)) for name, text in zip(names, newest, strict=True)]
        lines = zip(*rows, strict=True) if beside else [(cell,) for row in rows for cell in row]
        for line in lines:
            grid.add_row(*line)
        return grid

    if not is_live():
        yield lambda texts: newest.__setitem__(slice(None), texts)
        say(*(f"{name}: {text}" for name, text in zip(names, newest, strict=True)))
        return
    with Live(table(), console=console, auto_refresh=False, vertical_overflow="visible") as live:

        def shown(texts: Sequence[str]) -> None:
            newest[:] = texts
            live.update(table(), refresh=True)

        yield shown


def typed_lines(mark: str = "> ") -> Iterator[str]:
    """Yield the lines that a person types, or those of a pipe, to their end."""
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    while True:
        try:
            yield console.input(mark, markup=False)
        except EOFError:
            say("")
            return
