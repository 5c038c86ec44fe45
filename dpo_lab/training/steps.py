"""Lightning's callbacks: what happens after every optimizer step."""

import time
from collections.abc import Callable
from typing import Any

import lightning as L

from dpo_lab.progress import Part
from dpo_lab.training.module import StepModule

Row = dict[str, float]


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
        self.seconds = 0.0
        """Spent on training so far, by processes before this one too."""
        self._items, self._tokens = 0, 0
        self._since = self._began = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return what a continued run needs to report as one that was never stopped."""
        return {"first": self.first, "newest": self.newest, "seconds": self.seconds + time.monotonic() - self._began}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the figures of the processes before."""
        self.first, self.newest, self.seconds = state_dict["first"], state_dict["newest"], state_dict["seconds"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._since = self._began = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any) -> None:
        """Collect and hand on."""
        assert isinstance(pl_module, StepModule)
        items, tokens = pl_module.taken
        self._items, self._tokens = self._items + items, self._tokens + tokens
        if trainer.global_step in (1, pl_module.total_steps) or trainer.global_step % self.every == 0:
            self.newest = {**pl_module.figures(), **self._speed(pl_module.items)}
            self.first = self.first or self.newest
            self.record({"step": trainer.global_step, **self.newest})

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self.seconds += time.monotonic() - self._began

    def _speed(self, name: str) -> Row:
        now = time.monotonic()
        took, self._since = max(now - self._since, 1e-9), now
        items, tokens, self._items, self._tokens = self._items, self._tokens, 0, 0
        return {f"time/{name}_per_second": items / took, "time/tokens_per_second": tokens / took}


class StepProgress(L.Callback):
    """Moves the bar that the person sees."""

    def __init__(self, part: Part) -> None:
        self.part = part

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show what an earlier process has done."""
        if trainer.global_step:
            self.part.advance(trainer.global_step, "")

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        """Count the step and show the newest figures."""
        collected = next(each for each in trainer.callbacks if isinstance(each, StepFigures)).newest  # type: ignore[attr-defined]
        shown = {"loss": "loss", "rewards/margins": "margin", "rewards/accuracies": "accuracy"}
        figures = [f"{label} {collected[name]:.2f}" for name, label in shown.items() if name in collected]
        speeds = {"time/pairs_per_second": "pairs/s", "time/tokens_per_second": "tokens/s"}
        figures += [
            f"{collected[name]:,.{0 if collected[name] >= 10 else 1}f} {label}"
            for name, label in speeds.items()
            if name in collected
        ]
        self.part.advance(1, "  ".join(figures))
