"""The contract of a preference loss."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from dpo_lab.components import Component
from dpo_lab.scoring.logps import PairLogps


class PreferenceLoss(Component, ABC):
    """A pure function of policy and reference log-probabilities, one value per pair."""

    needs_reference: ClassVar[bool] = True
    """False if the reference's numbers are never read; then no reference pass runs."""
    couples_pairs: ClassVar[bool] = False
    """True if the loss of one pair depends on the other pairs of the optimizer step."""
    needs_full_softmax: ClassVar[bool] = False
    """True if per-token log-probabilities of the whole vocabulary are read."""

    needs_labels: ClassVar[tuple[str, ...]] = ()
    """Fields of `PairLabels` that every pair must have."""

    beta: float
    """Strength of the pull towards the reference, per nat; also the scale of the logged rewards."""

    @abstractmethod
    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
