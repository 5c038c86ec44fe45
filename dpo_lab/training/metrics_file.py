"""metrics.jsonl: one JSON object per logged step, appended once and never rewritten."""

import json
import math
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"


class MetricsFile:
    """The rows of a training or of a run; a continued process adds only steps that are not there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last_step = -1  # a row may be of step 0, before the first
        if path.exists():
            self._cut_torn_line()
            self.last_step = max((row["step"] for row in self.rows()), default=-1)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows so far."""
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()] if self.path.exists() else []

    def write(self, row: dict[str, Any]) -> bool:
        """Append a row, unless its step is there; return whether it was new. Numbers that are not finite become null."""
        if row["step"] <= self.last_step:
            return False
        plain = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain, allow_nan=False) + "\n")
        self.last_step = row["step"]
        return True

    def _cut_torn_line(self) -> None:
        """Remove what a kill in the middle of a line left."""
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with self.path.open("r+b") as file:
                file.truncate(whole)
