"""What a person sees while a part works: a live bar on a terminal, a plain line now and then elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

EVERY_SECONDS = 15.0  # how often a log file (no terminal) gets a line

console = Console(highlight=False)
console.soft_wrap = not console.is_terminal  # a terminal breaks lines between words, a log file nowhere


class Part:
    """The progress of one part; `advance` is cheap enough for every batch."""

    def __init__(self, name: str, total: int, live: Progress | None) -> None:
        self.name, self.total, self.done = name, total, 0
        self._live = live
        self._task = live.add_task(name, total=total, figures="") if live else None
        self._next_line = time.monotonic() + EVERY_SECONDS

    def advance(self, count: int = 1, figures: str = "") -> None:
        """Count work done and show the newest figures, such as `loss 0.41`."""
        self.done += count
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=self.done, figures=figures)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + EVERY_SECONDS
            console.print(f"  {self.name}  {self.done}/{self.total}  {figures}".rstrip())


@contextmanager
def part(name: str, total: int) -> Iterator[Part]:
    """Show the progress of a part of `total` units while the block runs; the bar leaves no trace behind."""
    if not console.is_terminal:
        yield Part(name, total, None)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, TextColumn("{task.fields[figures]}"), console=console, transient=True) as live:
        yield Part(name, total, live)
