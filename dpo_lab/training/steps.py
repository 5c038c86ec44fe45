"""Lightning's callbacks: what happens after every optimizer step."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L

from dpo_lab.progress import Part
from dpo_lab.training.evaluations import Evaluator
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

    def pause(self, seconds: float) -> None:
        """Take note of time that was not spent on training."""


class StepFigures(L.Callback):
    """Hands the figures of the first, every n-th and the last step on; keeps the first and the newest.

    Where the policy is measured while it is trained, what is found stands in the row of the step, or in a row without figures of
    training where the step has none.

    Args:
        every: n, optimizer steps between two rows.
        record: takes each row, `step` and figures.
        evaluator: measures the policy; None: nothing is measured.
    """

    def __init__(self, every: int, record: Callable[[Row], object], evaluator: Evaluator | None = None) -> None:
        self.every, self.record, self.evaluator = every, record, evaluator
        self.first: Row = {}
        self.newest: Row = {}
        self.newest_step = 0
        """The step of `newest`; once training has ended, the number of steps taken."""
        self.notes: list[str] = []
        """What other callbacks have to say of the training when it has ended."""
        self.held_out: Row = {}
        """Newest figures of held-out data."""
        self.held_out_step = 0
        """The step of `held_out`; 0: nothing was measured."""
        self.seconds, self.seconds_evaluating = 0.0, 0.0
        """Spent so far, by processes before this one too: on training alone, and on measuring the policy meanwhile."""
        self._began = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return what a continued run needs to report as one that was never stopped."""
        kept = {"first": self.first, "newest": self.newest, "newest_step": self.newest_step, "notes": self.notes}
        kept |= {"held_out": self.held_out, "held_out_step": self.held_out_step}
        kept |= {"seconds": self.seconds + time.monotonic() - self._began}
        return {**kept, "seconds_evaluating": self.seconds_evaluating}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the figures of the processes before."""
        self.first, self.newest, self.newest_step = state_dict["first"], state_dict["newest"], state_dict["newest_step"]
        self.notes, self.seconds = list(state_dict["notes"]), state_dict["seconds"]
        self.held_out, self.held_out_step = state_dict["held_out"], state_dict["held_out_step"]
        self.seconds_evaluating = state_dict["seconds_evaluating"]

    @property
    def held_out_names(self) -> tuple[str, ...]:
        """Figures that the rows of some steps have: those at which the policy is measured."""
        return self.evaluator.plan.names if self.evaluator else ()

    def of(self, step: int, name: str) -> float | None:
        """Return a figure of a step, None where a row does not have it: no row is made, or nothing was measured.

        Raises:
            KeyError: if no row of this training has it; it holds the names that there are.
        """
        row, at = (self.held_out, self.held_out_step) if name in self.held_out_names else (self.newest, self.newest_step)
        if at != step:
            return None
        if name not in row:
            raise KeyError(", ".join(sorted({*self.newest, *self.held_out})))
        return row[name]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Collect and hand on."""
        assert isinstance(pl_module, StepModule)
        step, every = trainer.global_step, trainer.callbacks  # type: ignore[attr-defined]
        more = [callback for callback in every if isinstance(callback, MoreFigures)]
        for callback in more:
            callback.count(pl_module)
        logged = step in (1, pl_module.total_steps) or step % self.every == 0
        if logged:
            self.newest, self.newest_step = pl_module.figures(), step
            for callback in more:
                self.newest |= callback.figures(pl_module)
            self.first = self.first or self.newest
        measured = self._measured(trainer, pl_module, more)
        if logged or measured:
            self.record({"step": step, **(self.newest if logged else {}), **measured})

    def _measured(self, trainer: L.Trainer, module: StepModule, more: Sequence[MoreFigures]) -> Row:
        """Measure the policy if it is time; the clocks of training stand still meanwhile."""
        step = trainer.global_step
        if not self.evaluator or not self.evaluator.plan.due(step, module.total_steps):
            return {}
        began = time.monotonic()
        self.held_out = self.evaluator.measured(module.policy, step, trainer.precision_plugin.forward_context)
        self.held_out_step = step
        took = time.monotonic() - began
        self._began, self.seconds_evaluating = self._began + took, self.seconds_evaluating + took
        for callback in more:
            callback.pause(took)
        return self.held_out

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self.seconds += time.monotonic() - self._began


def step_figures(trainer: L.Trainer) -> StepFigures:
    """Return the callback that collects a training's figures."""
    found: StepFigures = next(callback for callback in trainer.callbacks if isinstance(callback, StepFigures))  # type: ignore[attr-defined]
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
