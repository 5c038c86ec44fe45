"""The frozen reference: a second copy of the model, scored beside the policy."""

import copy
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from dpo_lab.components import component
from dpo_lab.layouts.base import ResponseBatch
from dpo_lab.reference.base import Reference, ReferenceModel, ReferenceScorer
from dpo_lab.scoring.fitting import Fit
from dpo_lab.scoring.logps import ResponseLogps
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore


@component
class FrozenReference(Reference):
    """A frozen copy in memory, scored on every micro-batch: the same rounding as the policy, so step 0 is exact."""

    exact: ClassVar[bool] = True
    copies_model: ClassVar[bool] = True

    def scorer(
        self, model: ReferenceModel, store: TokenStore, fit: Fit, *, root: Path, name: str
    ) -> tuple[ReferenceScorer, float]:
        """Return the scorer of a copy of the model."""
        return FrozenScorer(copy.deepcopy(model.load()), own_logits=fit.own_logits), 0.0


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
