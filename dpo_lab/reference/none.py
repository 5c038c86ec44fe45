"""No reference: for losses that read none."""

from pathlib import Path
from typing import ClassVar

from torch import nn

from dpo_lab.components import component
from dpo_lab.layouts.base import Layout, ResponseBatch
from dpo_lab.reference.base import Reference, ReferenceScorer
from dpo_lab.scoring.logps import ResponseLogps
from dpo_lab.tokens.store import TokenStore


@component
class NoReference(Reference):
    """No model is kept and none is scored; rewards and margins are then those of the policy alone."""

    compares: ClassVar[bool] = False

    def scorer(
        self, model: nn.Module, store: TokenStore, layout: Layout, *, root: Path, name: str, own_logits: bool
    ) -> tuple[ReferenceScorer, float]:
        """Return the scorer that gives zeros."""
        return ZeroScorer(), 0.0


class ZeroScorer(ReferenceScorer):
    """Gives log-probability 0 for every token: a loss that subtracts it subtracts nothing."""

    def forward(self, batch: ResponseBatch) -> ResponseLogps:
        """Return zeros of the batch's shape."""
        zeros = batch.predictors.new_zeros(batch.predictors.shape).float()
        return ResponseLogps(zeros, batch.counts)
