"""The contract of a reference: what the frozen model says of the responses of a batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from dpo_lab.components import Component
from dpo_lab.layouts.base import ResponseBatch
from dpo_lab.scoring.fitting import Fit
from dpo_lab.scoring.logps import ResponseLogps
from dpo_lab.tokens.store import TokenStore


@dataclass(frozen=True)
class ReferenceModel:
    """The model that is the reference."""

    path: Path
    """Its directory; a Hub id where it is one."""
    load: Callable[[], nn.Module]
    """Returns it, ready to be scored; references that need no second model never call it."""
    drew: bool = False
    """Whether it drew the store's responses, so that the log-probabilities kept with them are its own."""


class ReferenceScorer(nn.Module, ABC):
    """Gives the reference's log-probabilities of a batch; part of the LightningModule, never of its checkpoint."""

    as_drawn: bool = False
    """Whether they are those that were drawn with the responses."""
    note: str = ""
    """What differs from what was expected, and why, for people."""

    @abstractmethod
    def forward(self, batch: ResponseBatch) -> ResponseLogps:
        """Return the log-probabilities of the batch's responses, without gradients."""

    def follow(self, policy: nn.Module) -> None:
        """Take note of the policy, for references that share its weights."""

    def after_step(self, policy: nn.Module, step: int) -> None:
        """Take note of an optimizer step, counted from 1, for references that move."""

    def state(self, policy: nn.Module) -> dict[str, Tensor]:
        """Return what a checkpoint needs to resume with a reference that has moved."""
        return {}

    def continue_from(self, state: dict[str, Tensor], policy: nn.Module) -> None:
        """Go on with the state of a checkpoint."""


class Reference(Component, ABC):
    """Where the reference's log-probabilities come from."""

    compares: ClassVar[bool] = True
    """False if there is no reference model at all."""
    exact: ClassVar[bool] = False
    """True if a policy that equals the reference gets exactly its numbers, False if up to rounding."""
    needs_adapter: ClassVar[bool] = False
    """True if the reference is the policy's own base, which only training an adapter leaves as it was."""
    keeps_adapter: ClassVar[bool] = False
    """True if such a reference has the adapter of the round before."""
    copies_model: ClassVar[bool] = False
    """True if a second copy of the whole model stays in memory beside the policy."""
    scores_live: ClassVar[bool] = True
    """True if every micro-batch is scored under it, beside the policy; False if its numbers are kept, or there are none."""
    moves: ClassVar[bool] = False
    """True if it changes while the policy is trained."""

    @property
    def takes_drawn(self) -> bool:
        """Whether log-probabilities that the reference gave while it drew the responses may stand for its pass."""
        return False

    def refuse_steps(self, total: int) -> None:
        """Raise RunError if a training of so many optimizer steps makes nothing of this reference."""

    @abstractmethod
    def scorer(
        self, model: ReferenceModel, store: TokenStore, fit: Fit, *, root: Path, name: str
    ) -> tuple[ReferenceScorer, float]:
        """Return the scorer of a store's responses under a model, and the seconds that a kept pass took to make.

        Args:
            model: the reference; it is not changed.
            fit: how the policy, and so the reference, is scored.
            root: the outputs directory.
            name: readable part of the name of what is kept there.
        """
