"""Ends training early by the figures of its rows."""

from statistics import fmean
from typing import Any, Literal

import lightning as L

from dpo_lab.components import ConfigError
from dpo_lab.training.module import StepModule
from dpo_lab.training.steps import step_figures

KEY = "callbacks.early_stopping"


class StopEarly(L.Callback):
    """Looks at every row once; a function of the rows alone, so that all processes of a training end at the same step."""

    def __init__(
        self,
        *,
        metric: str,
        mode: Literal["min", "max"],
        window: int,
        patience: int | None,
        min_delta: float,
        threshold: float | None,
    ) -> None:
        self.metric, self.mode, self.window, self.patience = metric, mode, window, patience
        self.min_delta, self.threshold = min_delta, threshold
        self.values: list[float] = []
        """Of the newest rows, at most `window`."""
        self.best: float | None = None
        self.waited = 0
        """Rows since the best."""
        self.reason = ""
        """Why training ended; empty while it has not."""

    @property
    def state_key(self) -> str:
        """Several stand side by side in a checkpoint: one for a plateau of the loss, one for a budget of drift."""
        asked = (self.metric, self.mode, self.window, self.patience, self.min_delta, self.threshold)
        return f"StopEarly{asked}"

    def state_dict(self) -> dict[str, Any]:
        """Return what was seen so far."""
        return {"values": self.values, "best": self.best, "waited": self.waited, "reason": self.reason}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what a process before has seen."""
        self.values, self.best = list(state_dict["values"]), state_dict["best"]
        self.waited, self.reason = state_dict["waited"], state_dict["reason"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take no step if a process before ended training and was killed before it could finish."""
        trainer.should_stop = trainer.should_stop or bool(self.reason)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Look at the row of this step, if it has one."""
        assert isinstance(pl_module, StepModule)
        figures, step, steps = step_figures(trainer), trainer.global_step, pl_module.total_steps
        try:
            value = figures.of(step, self.metric)
        except KeyError as known:
            raise ConfigError(
                f"{KEY}.metric={self.metric} is not a figure of this training; there are {known.args[0]}."
            ) from None
        if value is None:
            return
        self.reason = self.look(value)
        if self.reason and step < steps:
            trainer.should_stop = True
            figures.notes.append(f"stopped early after step {step} of {steps}: {self.reason}")
        elif step == steps and self.threshold is not None:
            figures.notes.append(self.reason or f"{self.shown()} did not reach {KEY}.threshold={self.threshold:g}")

    def look(self, value: float) -> str:
        """Take the figure of one more row; return why training should end, or an empty text."""
        self.values = [*self.values, value][-self.window :]
        if len(self.values) < self.window:
            return ""
        sign, mean = 1 if self.mode == "max" else -1, fmean(self.values)
        if self.threshold is not None and sign * mean >= sign * self.threshold:
            return f"{self.shown()} reached {KEY}.threshold={self.threshold:g}"
        if self.best is None or sign * (mean - self.best) > self.min_delta:
            self.best, self.waited = mean, 0
            return ""
        self.waited += 1
        if self.patience is None or self.waited < self.patience:
            return ""
        return f"{self.shown()} was not better than {self.best:.4g} for {KEY}.patience={self.patience} rows"

    def shown(self) -> str:
        """Return the figure with its newest mean."""
        over = f", mean of {len(self.values)} rows," if len(self.values) > 1 else ""
        return f"{self.metric} {fmean(self.values):.4g}{over}"
