"""Lightning's callbacks: what happens after every optimizer step."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import lightning as L

from dpo_lab.progress import Part
from dpo_lab.training.module import StepModule

Row = dict[str, float]


class MoreFigures(L.Callback, ABC):
    """A callback with its own figures for every row."""

    @abstractmethod
    def count(self, module: StepModule) -> None:
        """Take note of the step that was just taken, before its row is made."""

    @abstractmethod
    def figures(self, module: StepModule) -> Row:
        """Return figures of the steps since the row before."""


class StepFigures(L.Callback):
    """Hands the figures of the first, every n-th and the last step on; keeps the first and the newest.

    Args:
        every: n, optimizer steps between two rows.
        record: takes each row, `step` and figures.
    """

    def __init__(self, every: int, record: Callable[[Row], object]) -> None:
        self.every, self.record = every, record
        self.first: Row = {}
        self.newest: Row = {}
        self.newest_step = 0
        """The step of `newest`; once training has ended, the number of steps taken."""
        self.notes: list[str] = []
        """What other callbacks have to say of the training when it has ended."""
        self.seconds = 0.0
        """Spent on training so far, by processes before this one too."""
        self._began = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return what a continued run needs to report as one that was never stopped."""
        kept = {"first": self.first, "newest": self.newest, "newest_step": self.newest_step, "notes": self.notes}
        return {**kept, "seconds": self.seconds + time.monotonic() - self._began}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the figures of the processes before."""
        self.first, self.newest, self.newest_step = state_dict["first"], state_dict["newest"], state_dict["newest_step"]
        self.notes, self.seconds = list(state_dict["notes"]), state_dict["seconds"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Collect and hand on."""
        assert isinstance(pl_module, StepModule)
        step, every = trainer.global_step, trainer.callbacks  # type: ignore[attr-defined]
        more = [each for each in every if isinstance(each, MoreFigures)]
        for each in more:
            each.count(pl_module)
        if step in (1, pl_module.total_steps) or step % self.every == 0:
            self.newest, self.newest_step = pl_module.figures(), step
            for each in more:
                self.newest |= each.figures(pl_module)
            self.first = self.first or self.newest
            self.record({"step": step, **self.newest})

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self.seconds += time.monotonic() - self._began


def step_figures(trainer: L.Trainer) -> StepFigures:
    """Return the callback that collects a training's figures."""
    found: StepFigures = next(each for each in trainer.callbacks if isinstance(each, StepFigures))  # type: ignore[attr-defined]
    return found


class StepProgress(L.Callback):
    """Moves the bar that the person sees."""

    def __init__(self, part: Part) -> None:
        self.part = part

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show what an earlier process has done."""
        if trainer.global_step:
            self.part.advance(trainer.global_step, resumed=True)

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        """Count the step and show the newest figures."""
        collected = step_figures(trainer).newest
        shown = {"loss": "loss", "rewards/margins": "margin", "rewards/accuracies": "accuracy"}
        figures = [f"{label} {collected[name]:.2f}" for name, label in shown.items() if name in collected]
        speeds = {"time/pairs_per_second": "pairs/s", "time/tokens_per_second": "tokens/s"}
        figures += [
            f"{collected[name]:,.{0 if collected[name] >= 10 else 1}f} {label}"
            for name, label in speeds.items()
            if name in collected
        ]
        self.part.advance(1, "  ".join(figures))
