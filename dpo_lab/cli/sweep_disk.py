"""How much disk the jobs of a sweep take at least, counted before the first one starts, and refused where it is not free."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


class DiskError(ValueError):
    """A sweep that does not fit on the disk; the message is all that the user sees."""


class SweepDisk:
    """Adds up what jobs write; a job that is built twice, and a run that is finished, count nothing."""

    def __init__(self) -> None:
        self.runs: dict[str, float] = {}
        """Bytes of each run that is missing, by its directory."""
        self.known: dict[str, float] = {}
        self.root = Path("outputs")

    def add(self, stage: Any) -> None:
        """Count the run of a job; stages that train nothing take next to nothing."""
        if not hasattr(stage, "iteration") or not hasattr(stage, "plan"):
            return
        from dpo_lab.artifacts import MANIFEST
        from dpo_lab.memory.check import disk_of_policies

        self.root = Path(stage.outputs)
        place = stage.plan().path
        if (place / MANIFEST).is_file():
            return
        same = repr((stage.model, stage.optim, stage.precision, stage.iteration, stage.callbacks))
        if same not in self.known:
            self.known[same] = disk_of_policies(stage)
        self.runs[str(place)] = self.known[same]

    def told(self, points: int | None = None) -> str:
        """Return what the sweep takes, in a line; empty where that is not known, or next to nothing.

        Args:
            points: of a search: how many runs there will be, each as large as the largest corner of its space.

        Raises:
            DiskError: if less is free.
        """
        from dpo_lab.amounts import bytes_text, count_of
        from dpo_lab.memory.disk import free_disk

        sizes: Sequence[float] = [max(self.runs.values())] * points if points and self.runs else list(self.runs.values())
        takes, free, runs = sum(sizes), free_disk(self.root), count_of(len(sizes), "run")
        if takes > free:
            raise DiskError(
                f"the {runs} of this sweep write at least {bytes_text(takes)} (policies and checkpoints), and "
                f"{bytes_text(free)} are free. Use paths.outputs=DIR on a larger disk, make room with dpo-lab clean, "
                "or sweep over less."
            )
        return f"{runs} to make: at least {bytes_text(takes)} of disk, {bytes_text(free)} free" if takes else ""
