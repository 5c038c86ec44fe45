"""The frozen reference: a second copy of the model, scored beside the policy."""

import copy
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from dpo_lab.components import component
from dpo_lab.layouts.base import Layout, ResponseBatch
from dpo_lab.reference.base import Reference, ReferenceScorer
from dpo_lab.scoring.logps import ResponseLogps
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore


@component
class FrozenReference(Reference):
    """A frozen copy in memory, scored on every micro-batch: the same rounding as the policy, so step 0 is exact."""

    exact: ClassVar[bool] = True

    def scorer(
        self, model: nn.Module, store: TokenStore, layout: Layout, *, root: Path, name: str, own_logits: bool
    ) -> tuple[ReferenceScorer, float]:
        """Return the scorer of a copy of the model."""
        return FrozenScorer(copy.deepcopy(model), own_logits=own_logits), 0.0


class FrozenScorer(ReferenceScorer):
    """Scores batches with a frozen copy that moves and converts with the module, always without dropout."""

    def __init__(self, model: nn.Module, *, own_logits: bool = False) -> None:
        super().__init__()
        self.model, self.own_logits = model.requires_grad_(False).eval(), own_logits

    def train(self, mode: bool = True) -> "FrozenScorer":
        """Stay in eval mode whatever the module is switched to."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, batch: ResponseBatch) -> ResponseLogps:
        """Return the copy's log-probabilities of the batch."""
        return score(self.model, batch, own_logits=self.own_logits)
