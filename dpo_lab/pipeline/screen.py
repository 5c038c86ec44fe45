"""The lines that a run prints, kept for the next call."""

import time

from dpo_lab.progress import say


class Screen:
    """Prints lines and keeps them, so that a finished run can show its end screen again."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.started = time.monotonic()

    def say(self, *lines: str) -> None:
        """Print lines and keep them."""
        self.lines += lines
        say(*lines)

    def elapsed(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self.started
