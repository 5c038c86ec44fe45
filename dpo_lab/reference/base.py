"""The contract of a reference: what the frozen model says of the responses of a batch."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn

from dpo_lab.components import Component
from dpo_lab.layouts.base import ResponseBatch
from dpo_lab.scoring.logps import ResponseLogps


class ReferenceScorer(nn.Module, ABC):
    """Gives the reference's log-probabilities of a batch; part of the LightningModule, never of its checkpoint."""

    @abstractmethod
    def forward(self, batch: ResponseBatch) -> ResponseLogps:
        """Return the log-probabilities of the batch's responses, without gradients."""


class Reference(Component):
    """How the frozen reference's log-probabilities are had."""

    on_disk: ClassVar[bool]
    """True if they are computed once per token store and kept, False if a model stays in memory."""
