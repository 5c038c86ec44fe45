"""The directory of a run: the names of its files, and the one place that writes and reads them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lab.artifacts import write_durably

KIND = "train"
"""Directory below the outputs that runs stand in."""
RUN = "run.json"
"""Name, tags, command, differences from the defaults, environment, lineage, lengths, rounds, samples."""
CALL = "call.json"
"""What the command line asked for; none of a run from Python."""
CONFIG = "config.json"
"""The fields of the stage."""
SUMMARY = "summary.json"
"""The figures of the end screen as flat keys."""
SCREEN = "screen.txt"
"""The lines that the run printed."""
METRICS = "metrics.jsonl"
"""One row per logged optimizer step; the directory of a policy has one too."""
SAMPLES = "samples.jsonl"
"""Of a policy's directory, its answers while it is trained: per time `step`, and `samples` with a prompt and an answer each."""
EVALUATIONS = "evaluations.jsonl"
"""Of a policy's directory, what was measured of it while it was trained: per time `step`, `seconds`, `figures`, and `samples`
with a prompt, the policy's answer and the reference's."""
REPORT = "report.html"
LOGGERS = "loggers"
"""What loggers keep, each below its own key."""
DEEPEST = 64  # levels; what is written here has about ten, and readers go down into it
CHANGING = (LOGGERS, REPORT)
"""What may change when a run is finished."""


@dataclass(frozen=True)
class RunDirectory:
    """A run of train on disk, finished or not."""

    path: Path

    # ------------------------------------------------------------ writing
    def begin(self, *, call: Mapping[str, Any] | None, config: Mapping[str, Any], run: Mapping[str, Any]) -> None:
        """Write what is asked for, before anything is trained."""
        if call:
            self._write(CALL, call)
        self._write(CONFIG, config)
        self._write(RUN, run)

    def finish(self, *, screen: Sequence[str], summary: Mapping[str, Any], run: Mapping[str, Any]) -> None:
        """Write what a run has found."""
        write_durably(self.path / SCREEN, "\n".join(screen) + "\n")
        self._write(SUMMARY, summary)
        self._write(RUN, run)

    def write_report(self, page: str) -> Path:
        """Write the report; return where it is."""
        write_durably(self.path / REPORT, page.encode("utf-8", "replace").decode("utf-8"))  # half a surrogate pair becomes "?"
        return self.path / REPORT

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        write_durably(self.path / name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    # ------------------------------------------------------------ reading
    @property
    def is_run(self) -> bool:
        """Whether a run began here."""
        return (self.path / RUN).is_file()

    def summary(self) -> dict[str, Any]:
        """Return the figures of a finished run."""
        return self.read(SUMMARY)

    def run(self) -> dict[str, Any]:
        """Return what a run says of itself."""
        return self.read(RUN)

    def config(self) -> dict[str, Any]:
        """Return the fields of the stage that ran."""
        return self.read(CONFIG)

    def screen(self) -> str:
        """Return the lines that a finished run printed."""
        return self.text(SCREEN).rstrip()

    def read(self, name: str) -> dict[str, Any]:
        """Return the JSON object of a file.

        Raises:
            OSError: if it cannot be read.
            ValueError: if it holds something else.
        """
        try:
            found = json.loads(self.text(name))
        except RecursionError:
            raise ValueError("it is nested without end") from None
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__} where an object belongs")
        if is_deeper(found, DEEPEST):
            raise ValueError(f"it is nested more than {DEEPEST} deep")
        return found

    def read_if_whole(self, name: str) -> dict[str, Any]:
        """Return the JSON object of a file, empty if there is none."""
        try:
            return self.read(name)
        except (OSError, ValueError):
            return {}

    def text(self, name: str) -> str:
        """Return what stands in a file; bytes that are not text become a replacement character."""
        return (self.path / name).read_text(encoding="utf-8", errors="replace")


def is_deeper(value: Any, depth: int) -> bool:
    """Return whether plain data is nested more than some levels deep.

    >>> is_deeper({"a": [1]}, 2), is_deeper({"a": [1]}, 1)
    (False, True)
    """
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return items is not None and (depth == 0 or any(is_deeper(item, depth - 1) for item in items))


def runs_below(outputs: Path) -> Iterable[RunDirectory]:
    """Return the runs below an outputs directory, the one that was written last first."""
    written = sorted((outputs / KIND).glob(f"*/{RUN}"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [RunDirectory(path.parent) for path in written]
