"""Lightning's logger for metrics.jsonl."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger


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
