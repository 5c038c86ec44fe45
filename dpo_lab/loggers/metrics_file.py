"""metrics.jsonl: one JSON object per logged step, appended to and read back line by line."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from dpo_lab.durable_files import durable_file
from dpo_lab.own_files import make_own
from dpo_lab.progress import say


class MetricsFile:
    """The rows of a training or of a run; a continued process adds only steps that are not there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last_step = -1  # a row may be of step 0, before the first
        if path.exists():
            self._cut_damaged_lines()
            self.last_step = max((row["step"] for row in self.rows()), default=-1)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows so far."""
        return [json.loads(line) for line in self.path.read_bytes().splitlines()] if self.path.exists() else []

    def write(self, row: dict[str, Any]) -> bool:
        """Append a row, unless its step is there; return whether it was new. Numbers that are not finite become null."""
        if row["step"] <= self.last_step:
            return False
        plain = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        make_own(self.path)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain, allow_nan=False) + "\n")
        self.last_step = row["step"]
        return True

    def _cut_damaged_lines(self) -> None:
        """Remove what a kill in the middle of a line left, and a damaged line with all that stands behind it."""
        whole = 0
        lines = self.path.read_bytes().splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                break
            if not is_row(line):
                say(
                    f"  {self.path} is damaged: line {number} of {len(lines)} is not a row. It is cut there, and the rows are "
                    "written again."
                )
                break
            whole += len(line)
        cut(self.path, whole)


def is_row(line: bytes) -> bool:
    """Return whether a line is a row of a step.

    >>> is_row(b'{"step": 3, "loss": 0.5}'), is_row(b'{"stxp": 3}'), is_row(b"[3]"), is_row(b"\\xff")
    (True, False, False, False)
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and isinstance(row.get("step"), int) and not isinstance(row["step"], bool)


def digest_of_rows(path: Path, size: int) -> str:
    """Return the sha256 of the first `size` bytes of a file; empty if it is absent or shorter."""
    if not path.exists() or path.stat().st_size < size:
        return ""
    with path.open("rb") as file:
        return hashlib.sha256(file.read(size)).hexdigest()


def cut(path: Path, size: int) -> None:
    """Remove all but the first `size` bytes of a file; an empty one goes."""
    if not path.exists():
        return
    if not size:
        path.unlink()
    elif size < path.stat().st_size:
        data = path.read_bytes()[:size]
        with durable_file(path) as file:  # in a new file: a copy by hard links keeps its own
            file.write(data)
