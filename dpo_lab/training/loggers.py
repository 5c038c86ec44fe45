"""Where the figures of a run go."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import PositiveInt

from dpo_lab.components import Component, ConfigError, component

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


class RunLogger(Component, ABC):
    """A place that figures go to."""

    @abstractmethod
    def build(self, directory: Path) -> "Logger":
        """Return Lightning's logger for a training that keeps its files in `directory`."""


@component
class LocalLogger(RunLogger):
    """metrics.jsonl in the run's directory: one line per logged optimizer step, never rewritten."""

    def build(self, directory: Path) -> "Logger":
        """Return the writer of metrics.jsonl."""
        from dpo_lab.training.metrics_file import MetricsFile

        return MetricsFile(directory)


@component
class WandbLogger(RunLogger):
    """Weights & Biases."""

    missing = "logging to W&B is not built yet. Use logger=local: every figure is in metrics.jsonl and summary.json."

    project: str = "dpo-lab"
    """The project that runs go to."""
    flush_seconds: PositiveInt = 1
    """How much history a kill may lose."""

    def build(self, directory: Path) -> "Logger":
        """Raise ConfigError: see `missing`."""
        raise ConfigError(f"logger.wandb: {self.missing}")
