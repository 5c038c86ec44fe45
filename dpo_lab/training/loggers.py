"""Where the figures of a run go."""

import json
from abc import ABC, abstractmethod
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from pydantic import PositiveInt

from dpo_lab.components import Component, ConfigError, component


class RunLogger(Component, ABC):
    """A place that figures go to."""

    @abstractmethod
    def build(self, directory: Path) -> Logger:
        """Return Lightning's logger for a training that keeps its files in `directory`."""


class MetricsFile(Logger):
    """Appends one JSON object per logged step to metrics.jsonl; a line once written stays."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.path = directory / "metrics.jsonl"

    @property
    def name(self) -> str:
        """The name of this kind of logger."""
        return "local"

    @property
    def version(self) -> str:
        """There is one file, without versions."""
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the configuration stands in the manifest."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append the figures of a step."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")


@component
class LocalLogger(RunLogger):
    """metrics.jsonl in the run's directory: one line per logged optimizer step, never rewritten."""

    def build(self, directory: Path) -> Logger:
        """Return the writer of metrics.jsonl."""
        return MetricsFile(directory)


@component
class WandbLogger(RunLogger):
    """Weights & Biases."""

    missing = "logging to W&B is not built yet. Use logger=local: every figure is in metrics.jsonl and summary.json."

    project: str = "dpo-lab"
    """The project that runs go to."""
    flush_seconds: PositiveInt = 1
    """How much history a kill may lose."""

    def build(self, directory: Path) -> Logger:
        """Raise ConfigError: see `missing`."""
        raise ConfigError(f"logger.wandb: {self.missing}")
