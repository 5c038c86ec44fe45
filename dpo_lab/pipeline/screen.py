"""The lines that a run prints, kept for the next call."""

import time

from dpo_lab.data.base import Data
from dpo_lab.models.spec import ModelSpec
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


def choices_of(model: ModelSpec, data: Data, devices: int) -> list[tuple[str, str]]:
    """Return what the first line says that a run is made of."""
    choices = [("model", model.label), ("data", data.label), *data.choices]
    if model.quant.bits:
        choices.append(("quant", f"{model.quant.bits}bit"))
    choices.append(("adapter", model.adapter.label))
    return [*choices, ("processes", str(devices))] if devices > 1 else choices
