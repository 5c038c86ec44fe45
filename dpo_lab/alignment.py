"""The parts that determine what a training run finds; the stages that train, or look at a training, add the rest."""

from dataclasses import field, fields
from pathlib import Path
from typing import Any

from dpo_lab.components import Component, component, plain
from dpo_lab.data.base import Data
from dpo_lab.evaluation.base import Measure
from dpo_lab.layouts.base import Layout
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.models.given import recorded_below
from dpo_lab.models.precision import Precision
from dpo_lab.models.spec import ModelSpec
from dpo_lab.reference.base import Reference
from dpo_lab.training.callbacks import RunCallback, content_of
from dpo_lab.training.iteration import Iteration
from dpo_lab.training.optim import Optim
from dpo_lab.training.settings import TrainerSettings


@component
class Alignment(Component):
    """A model, the preferences it is aligned with, and how."""

    model: ModelSpec
    data: Data
    loss: PreferenceLoss
    reference: Reference
    optim: Optim
    evaluation: Measure
    layout: Layout
    precision: Precision = Precision()
    trainer: TrainerSettings = TrainerSettings()
    iteration: Iteration = Iteration()
    callbacks: dict[str, RunCallback] = field(default_factory=dict)
    seed: int = 0
    outputs: Path = Path("outputs")
    """Everything that is written goes below it."""

    def content(self) -> dict[str, Any]:
        """Return what determines the figures: neither where they go nor what a stage adds to say what a run is called."""
        names = [part.name for part in fields(Alignment) if part.name not in ("outputs", "callbacks")]
        with recorded_below(self.outputs):
            parts = {name: plain(getattr(self, name)) for name in names}
        precision, every = self.precision.resolved(self.trainer.device()), self.evaluation.every
        more = content_of(self.callbacks, self.trainer.log_every) | ({"evaluation.every": every} if every else {})
        return {**parts, "precision": precision, **more}
