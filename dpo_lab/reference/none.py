"""No reference: for losses that read none."""

from pathlib import Path
from typing import ClassVar

from dpo_lab.components import component
from dpo_lab.layouts.base import ResponseBatch
from dpo_lab.reference.base import Reference, ReferenceModel, ReferenceScorer
from dpo_lab.scoring.fitting import Fit
from dpo_lab.scoring.logps import ResponseLogps
from dpo_lab.tokens.store import TokenStore


@component
class NoReference(Reference):
    """No model is kept and none is scored; rewards and margins are then those of the policy alone."""

    compares: ClassVar[bool] = False
    scores_live: ClassVar[bool] = False

    def scorer(
        self, model: ReferenceModel, store: TokenStore, fit: Fit, *, root: Path, name: str
    ) -> tuple[ReferenceScorer, float]:
        """Return the scorer that gives zeros."""
        return ZeroScorer(), 0.0


class ZeroScorer(ReferenceScorer):
    """Gives log-probability 0 for every token: a loss that subtracts it subtracts nothing."""

    def forward(self, batch: ResponseBatch) -> ResponseLogps:
        """Return zeros of the batch's shape."""
        zeros = batch.predictors.new_zeros(batch.predictors.shape).float()
        return ResponseLogps(zeros, batch.counts)
