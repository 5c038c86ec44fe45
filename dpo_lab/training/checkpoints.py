"""Checkpoints: what a killed training resumes from, saved between optimizer steps and written so that a kill leaves no half."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import lightning as L
import torch

from dpo_lab.components import ConfigError
from dpo_lab.progress import say
from dpo_lab.signals import let_go_of_terminal, to_answer
from dpo_lab.training.checkpoint_files import DIRECTORY, checkpoints, path_of
from dpo_lab.training.steps import step_figures

__all__ = ["DIRECTORY", "Checkpoints", "Signals", "checkpoints"]


class Signals:
    """While it is entered, the first SIGTERM, SIGHUP or Ctrl-C waits for the end of the optimizer step; a second one does not."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        let_go_of_terminal(number)
        if self.received is not None:
            self.deliver()
        self.received = number

    def install(self) -> None:
        """Take the signals over; called after Lightning has installed its own handlers. In the main thread only."""
        with suppress(ValueError):  # another thread: signals are not ours there
            for number in self._before:
                signal.signal(number, self._note)

    def deliver(self) -> None:
        """Put the handlers from before back and let them answer the signal that came, if one did."""
        for number, handler in self._before.items():
            with suppress(ValueError):
                signal.signal(number, handler)
        if (received := self.received) is not None:
            self.received = None
            os.kill(os.getpid(), received)

    @contextmanager
    def held_back(self) -> Iterator["Signals"]:
        """Put the handlers back after the block; a signal that came after the last step is answered then."""
        self._before = {number: signal.getsignal(number) for number in to_answer()}
        try:
            yield self
        finally:
            self.deliver()


class Checkpoints(L.Callback):
    """Saves between optimizer steps: every so often, when a signal asks the process to end, and whenever a figure is the best.

    Args:
        steps, seconds: how often; None where that is not counted.
        keep: how many of the newest stay while training runs.
        best: name of a figure whose best step stays too; empty for none.
        takes_best: whether the module has the weights of that step when training ends.
    """

    def __init__(
        self,
        directory: Path,
        *,
        steps: int | None,
        seconds: float | None,
        keep: int,
        best: str,
        mode: Literal["min", "max"],
        takes_best: bool,
        signals: Signals,
    ) -> None:
        self.directory = directory
        self.steps, self.seconds, self.keep, self.best, self.sign = steps, seconds, keep, best, 1 if mode == "max" else -1
        self.takes_best, self.signals = takes_best, signals
        self.best_step, self.best_value = 0, 0.0
        self._saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return which step was the best so far."""
        return {"best_step": self.best_step, "best_value": self.best_value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over which step was the best so far."""
        self.best_step, self.best_value = state_dict["best_step"], state_dict["best_value"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signals over."""
        self.signals.install()
        self._saved_at = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Save if it is time, and end the process if it was asked to."""
        stopping = self.signals.received is not None
        due = self.steps is not None and trainer.global_step % self.steps == 0
        due = due or (self.seconds is not None and time.monotonic() - self._saved_at >= self.seconds)
        if self._is_best(trainer) or due or stopping:
            trainer.save_checkpoint(path_of(self.directory, trainer.global_step))
            self._saved_at = time.monotonic()
            self._remove_old(self.keep)
        if stopping:
            say(f"  saved after step {trainer.global_step}")
            self.signals.deliver()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the best step's weights if that is asked for; remove what the finished model replaces: of the newest one fewer
        stays, and the best.
        """
        if self.takes_best and self.best_step:
            kept = torch.load(path_of(self.directory, self.best_step), map_location="cpu", weights_only=True, mmap=True)
            pl_module.load_state_dict(kept["state_dict"], strict=False)
            which = f"step {self.best_step} of {trainer.global_step}, the best by {self.best} ({self.best_value:.4g})"
            step_figures(trainer).notes.append(f"the policy is that of {which}")
        self._remove_old(self.keep - 1)

    def _is_best(self, trainer: L.Trainer) -> bool:
        if not self.best:
            return False
        try:
            value = step_figures(trainer).of(trainer.global_step, self.best)
        except KeyError as known:
            message = f"callbacks.checkpoint.best={self.best} is not a figure of this training; there are {known.args[0]}."
            raise ConfigError(message) from None
        if value is None:
            return False
        if self.best_step and self.sign * value <= self.sign * self.best_value:
            return False
        self.best_step, self.best_value = trainer.global_step, value
        return True

    def _remove_old(self, keep: int) -> None:
        found = checkpoints(self.directory)
        for step in sorted(found)[: max(0, len(found) - keep)]:
            if step != self.best_step:
                found[step].unlink()
        if self.directory.exists() and not any(self.directory.iterdir()):
            self.directory.rmdir()
