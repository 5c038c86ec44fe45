"""The contract of a preference loss."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from dpo_lab.components import Component
from dpo_lab.scoring.logps import PairLogps
from dpo_lab.tokens.labels import PairLabels


class PreferenceLoss(Component, ABC):
    """A pure function of policy and reference log-probabilities, one value per pair.

    A class declares what differs from the answers below, `needs_reference: ClassVar[bool] = False`; a loss that is made
    of others names them as `inner` and needs what they need.
    """

    takes_lists: ClassVar[bool] = False
    """Whether it reads ranked lists of any length (`PairLogps.lists`), not pairs alone."""
    compared: ClassVar[bool] = True
    """Held-out pairs get a figure of this loss in runs with other losses too, with the defaults of its class."""

    if TYPE_CHECKING:  # a field, a constant or a property of each class; a property here would hide a field without default

        @property
        def beta(self) -> float:
            """Strength of the pull towards the reference, per nat; also the scale of the logged rewards."""

    @property
    def label(self) -> str:
        """Name in the directories of runs: the option's where the class tells them apart."""
        return type(self).__name__.removesuffix("Loss").lower()

    @property
    def inner(self) -> Sequence["PreferenceLoss"]:
        """The losses that this one is made of: the one in its field `loss`; most are made of none."""
        loss = getattr(self, "loss", None)
        return (loss,) if isinstance(loss, PreferenceLoss) else ()

    @property
    def needs_reference(self) -> bool:
        """False if the reference's numbers are never read; then no reference pass has to run."""
        return any(loss.needs_reference for loss in self.inner) if self.inner else True

    @property
    def couples_pairs(self) -> bool:
        """True if the loss of one pair depends on the other pairs of the optimizer step."""
        return any(loss.couples_pairs for loss in self.inner)

    @property
    def needs_full_softmax(self) -> bool:
        """True if `log_sum_squares`, which takes the probabilities of the whole vocabulary, is read."""
        return any(loss.needs_full_softmax for loss in self.inner)

    @property
    def needs_labels(self) -> tuple[str, ...]:
        """Fields of `PairLabels` that every pair must have."""
        return tuple(dict.fromkeys(name for loss in self.inner for name in loss.needs_labels))

    @abstractmethod
    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""


def known_labels(policy: PairLogps) -> PairLabels:
    """Return what the data says of the pairs.

    Raises:
        ValueError: if nothing was carried along: the loss cannot be computed.
    """
    if policy.labels is None:
        raise ValueError("these pairs have no labels, and the loss reads scores or preferences; give PairLogps its `labels`")
    return policy.labels
