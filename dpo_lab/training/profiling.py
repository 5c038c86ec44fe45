"""Records a few steps with torch's profiler."""

import os
from pathlib import Path
from typing import Any

import lightning as L
from torch.profiler import ProfilerActivity, profile, schedule

from dpo_lab.artifacts import write_durably
from dpo_lab.components import RunError
from dpo_lab.training.module import StepModule
from dpo_lab.training.steps import step_figures

# else torch prints two lines about itself for every profile: https://github.com/pytorch/kineto/issues/726, still with 2.13
os.environ.setdefault("KINETO_LOG_LEVEL", "6")
TRACE, TABLE = "profile_trace.json.gz", "profile_operators.txt"
MAX_ROWS = 40  # of the table


class Profiling(L.Callback):
    """Watches steps once in a training; a process that resumes after they were recorded does not record again."""

    def __init__(self, directory: Path, *, wait: int, warmup: int, active: int) -> None:
        self.directory, self.wait, self.warmup, self.active = directory, wait, warmup, active
        self.done = False
        self._profiler: profile | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return whether it is done."""
        return {"done": self.done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over whether it is done."""
        self.done = state_dict["done"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to count steps.

        Raises:
            RunError: if training has fewer than are asked for.
        """
        assert isinstance(pl_module, StepModule)
        steps = self.wait + self.warmup + self.active
        if pl_module.total_steps < steps:
            raise RunError(
                f"callbacks.profile watches wait + warmup + active = {steps} steps, "
                f"and this training has {pl_module.total_steps}; "
                "lower callbacks.profile.active, or take more steps (trainer.epochs, trainer.max_steps, trainer.batch_size)."
            )
        if self.done:
            return
        on_gpu = [ProfilerActivity.CUDA] if pl_module.device.type == "cuda" else []
        counted = schedule(wait=self.wait, warmup=self.warmup, active=self.active, repeat=1)
        self._profiler = profile(activities=[ProfilerActivity.CPU, *on_gpu], schedule=counted, on_trace_ready=self._write)
        self._profiler.start()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Count the step; say where the files are when the last one is recorded."""
        if self._profiler is None:
            return
        self._profiler.step()
        if self.done:
            self._end()
            first = trainer.global_step - self.active + 1
            where = f"{self.directory / TABLE}, and {TRACE} beside it for https://ui.perfetto.dev"
            step_figures(trainer).notes.append(f"profile of steps {first} to {trainer.global_step}: {where}")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say so if training ended before the steps were recorded."""
        if self._profiler is not None:
            step_figures(trainer).notes.append("no profile: training ended before the steps that callbacks.profile waits for")
        self._abandon()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Stop recording."""
        self._abandon()

    def _write(self, profiler: profile) -> None:
        if self._profiler is None:  # ended half way
            return
        profiler.export_chrome_trace(str(self.directory / TRACE))
        events = profiler.key_averages()
        key = "self_device_time_total" if any(event.self_device_time_total for event in events) else "self_cpu_time_total"
        write_durably(self.directory / TABLE, events.table(sort_by=key, row_limit=MAX_ROWS) + "\n")
        self.done = True

    def _end(self) -> None:
        assert self._profiler is not None
        self._profiler.stop()
        self._profiler = None

    def _abandon(self) -> None:
        profiler, self._profiler = self._profiler, None
        if profiler is not None:
            profiler.stop()
