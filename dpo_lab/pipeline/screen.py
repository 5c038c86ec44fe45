"""The lines that a run prints, kept for the next call."""

import json
import time
from pathlib import Path
from typing import Any

from dpo_lab.artifacts import write_durably
from dpo_lab.pipeline.run_record import SCREEN, SUMMARY
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

    def save(self, directory: Path, summary: dict[str, Any]) -> None:
        """Write the end screen and the figures."""
        write_durably(directory / SCREEN, "\n".join(self.lines) + "\n")
        write_durably(directory / SUMMARY, json.dumps(summary, indent=1) + "\n")
