"""The contract of a reference: what the frozen model says of the responses of a batch."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from torch import nn

from dpo_lab.components import Component
from dpo_lab.layouts.base import Layout, ResponseBatch
from dpo_lab.scoring.logps import ResponseLogps
from dpo_lab.tokens.store import TokenStore


class ReferenceScorer(nn.Module, ABC):
    """Gives the reference's log-probabilities of a batch; part of the LightningModule, never of its checkpoint."""

    @abstractmethod
    def forward(self, batch: ResponseBatch) -> ResponseLogps:
        """Return the log-probabilities of the batch's responses, without gradients."""


class Reference(Component, ABC):
    """How the frozen reference's log-probabilities are had."""

    compares: ClassVar[bool] = True
    """False if there is no reference model at all."""
    exact: ClassVar[bool] = False
    """True if a policy that equals the reference gets exactly its numbers, False if up to rounding."""

    @abstractmethod
    def scorer(
        self, model: nn.Module, store: TokenStore, layout: Layout, *, root: Path, name: str, own_logits: bool
    ) -> tuple[ReferenceScorer, float]:
        """Return the scorer of a store's responses under a model, and the seconds that a kept pass took to make.

        Args:
            model: the reference; it is not changed.
            root: the outputs directory.
            name: readable part of the name of what is kept there.
            own_logits: see `scoring.score.response_logits`.
        """
