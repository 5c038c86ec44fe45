"""What one round of preference training is given: its models, how every round trains, and what determines its weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dpo_lab.data.base import Order
from dpo_lab.layouts.base import Layout
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.models.adapter import Adapter
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.models.precision import Precision
from dpo_lab.pipeline.while_training import WhileTraining
from dpo_lab.reference.base import Reference
from dpo_lab.seeding import derive
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.batches import steps_of_epoch
from dpo_lab.training.callbacks import RunCallback, content_of
from dpo_lab.training.optim import Optim
from dpo_lab.training.settings import TrainerSettings


@dataclass(frozen=True)
class Round:
    """The models of one round."""

    number: int
    """Counted from 1."""
    name: str
    """Readable part of the directories' names."""
    base: ModelOnDisk
    """The model before all rounds."""
    start: ModelOnDisk
    """The policy before this round."""
    reference: ModelOnDisk
    """The frozen reference of this round."""
    evaluated: WhileTraining | None = None
    """How its policy is measured while it is trained; None: it is not."""
    drawn_by: str = ""
    """Id of the model whose own log-probabilities were kept with the responses that it drew; empty: of none."""

    @property
    def reference_drew(self) -> bool:
        """Whether the reference drew the responses."""
        return self.drawn_by == self.reference.id

    @property
    def parents(self) -> list[str]:
        """The ids of the models that its policy is made from."""
        return [self.start.id, self.reference.id]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How every round trains its policy, whatever its models and its pairs are."""

    adapter: Adapter
    loss: PreferenceLoss
    reference: Reference
    optim: Optim
    layout: Layout
    precision: Precision
    trainer: TrainerSettings
    callbacks: Mapping[str, RunCallback]
    checkpointing: bool
    """Whether layers are computed again in the backward pass."""
    order: Order
    """Of the pairs."""
    seed: int
    """Of the run; each round derives its own."""
    root: Path
    """The outputs directory, for the pass of the reference."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.trainer.device()

    def compares_with_start(self, this: Round) -> bool:
        """Whether the reference is the model that training starts from, or is not asked at all."""
        return this.reference.id == this.start.id or not self.reference.compares


def steps_of(training: Training, this: Round, store: TokenStore) -> int:
    """Return the optimizer steps that a round takes unless it ends early."""
    settings, seed = training.trainer, derive(training.seed, "round", this.number)
    epochs = (steps_of_epoch(store, settings.batch_size, training.order, seed, epoch) for epoch in range(settings.epochs))
    steps = sum(map(len, epochs))
    return min(settings.max_steps or steps, steps)


def policy_content(training: Training, this: Round, store: TokenStore) -> dict[str, Any]:
    """Return what determines the weights that a round trains."""
    return {
        "start": this.start.id,
        "reference": [this.reference.id, training.reference.content()],
        "tokens": store.fingerprint(),
        **({"drawn": store.drawn_digest()} if this.reference_drew and training.reference.takes_drawn else {}),
        "labels": [store.label_digest(name) for name in training.loss.needs_labels],
        "adapter": training.adapter.content(),
        "seed": [training.seed, this.number],
        "order": training.order,
        "precision": training.precision.resolved(training.device),
        **{name: getattr(training, name).content() for name in ("loss", "optim", "trainer", "layout")},
        **content_of(training.callbacks, training.trainer.log_every),
        **({"evaluated": this.evaluated.content()} if this.evaluated else {}),
    }
