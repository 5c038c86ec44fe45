"""Lightning's callbacks: what happens after every optimizer step."""

from typing import Any

import lightning as L

from dpo_lab.progress import Part
from dpo_lab.training.module import StepModule


class StepFigures(L.Callback):
    """Hands the figures of the first, every n-th and the last step to the loggers; keeps the first and the newest."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.first: dict[str, float] = {}
        self.newest: dict[str, float] = {}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Collect and log."""
        assert isinstance(pl_module, StepModule)
        if trainer.global_step in (1, pl_module.total_steps) or trainer.global_step % self.every == 0:
            self.newest = pl_module.figures()
            self.first = self.first or self.newest
            for logger in trainer.loggers:
                logger.log_metrics(self.newest, step=trainer.global_step)


class StepProgress(L.Callback):
    """Moves the bar that the person sees."""

    def __init__(self, part: Part) -> None:
        self.part = part

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        """Count the step and show the newest figures."""
        collected = next(each for each in trainer.callbacks if isinstance(each, StepFigures)).newest  # type: ignore[attr-defined]
        shown = {"loss": "loss", "rewards/margins": "margin", "rewards/accuracies": "accuracy"}
        self.part.advance(1, "  ".join(f"{label} {collected[name]:.2f}" for name, label in shown.items() if name in collected))
