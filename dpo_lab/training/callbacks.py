"""What happens beside the training steps."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, PositiveInt

from dpo_lab.components import Component, component
from dpo_lab.progress import Part

if TYPE_CHECKING:
    import lightning as L

    from dpo_lab.training.checkpoints import Signals

MINUTES = re.compile(r"(\d+(?:\.\d+)?) ?min")


@dataclass(frozen=True)
class Running:
    """The training that callbacks stand beside."""

    part: Part
    """The progress that the person sees."""
    directory: Path
    """Where its files go."""
    signals: "Signals"
    """Requests to end the process."""


class RunCallback(Component, ABC):
    """Something that happens beside the training steps."""

    @abstractmethod
    def build(self, running: Running) -> "L.Callback":
        """Return Lightning's callback."""


@component
class ProgressBar(RunCallback):
    """Steps done, speed and the newest loss, margin and accuracy, on the terminal."""

    def build(self, running: Running) -> "L.Callback":
        """Return the callback that moves the bar."""
        from dpo_lab.training.steps import StepProgress

        return StepProgress(running.part)


def steps_or_minutes(every: int | str) -> int | str:
    """Return the value if it is a number of steps or of minutes; ValueError if not."""
    if isinstance(every, int) and every > 0:
        return every
    if isinstance(every, str) and (match := MINUTES.fullmatch(every)) and float(match[1]) > 0:
        return every
    raise ValueError("a number of optimizer steps above 0, such as 100, or of minutes, such as 5min")


@component
class Checkpoint(RunCallback):
    """Saves what a killed training goes on from; SIGTERM and Ctrl-C save too, at the end of the step."""

    every: Annotated[int | str, AfterValidator(steps_or_minutes)] = "5min"
    """Optimizer steps (100) or minutes (5min) between two checkpoints."""
    keep: PositiveInt = 1
    """Newest checkpoints that stay; when training ends, the finished model takes the place of the newest."""
    best: str = ""
    """Figure of a step whose best checkpoint stays as well, such as rewards/margins; empty: none. Looked at every step."""
    mode: Literal["max", "min"] = "max"
    """Whether the highest or the lowest value of `best` is the best."""

    def build(self, running: Running) -> "L.Callback":
        """Return the callback that saves."""
        from dpo_lab.training.checkpoints import DIRECTORY, Checkpoints

        minutes = MINUTES.fullmatch(str(self.every))
        return Checkpoints(
            running.directory / DIRECTORY,
            steps=None if minutes else int(self.every),
            seconds=float(minutes[1]) * 60 if minutes else None,
            keep=self.keep,
            best=self.best,
            mode=self.mode,
            signals=running.signals,
        )
