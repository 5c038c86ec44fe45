"""A reference that follows the policy: TR-DPO."""

import copy
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from dpo_lab.components import RunError, component
from dpo_lab.layouts.base import ResponseBatch
from dpo_lab.models.adapted import beside
from dpo_lab.reference.adapters import AdapterScorer, adapter_of
from dpo_lab.reference.base import Reference, ReferenceModel, ReferenceScorer
from dpo_lab.reference.frozen import FrozenScorer
from dpo_lab.scoring.fitting import Fit
from dpo_lab.scoring.logps import ResponseLogps
from dpo_lab.tokens.store import TokenStore


@component
class EMAReference(Reference):
    """An exponential moving average of the policy's weights: TR-DPO, Gorbatovski et al. 2024 (arXiv:2404.09656).

    After every so many optimizer steps, reference <- alpha * policy + (1 - alpha) * reference: the paper's soft update; with
    alpha 1 its hard one. Each training begins with the reference that any other would have, and an evaluation has that one too.
    With an adapter its tensors are averaged, in a second adapter: not the same as averaging the products B A, unless alpha is 1.
    Scored on every micro-batch: numbers that are computed ahead, as `cached` does, would be those of a model that is gone.
    """

    exact: ClassVar[bool] = True
    moves: ClassVar[bool] = True

    alpha: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Share of the policy in an update; 1 copies it."""
    every: PositiveInt = 512
    """Optimizer steps between updates, the paper's tau."""

    def scorer(
        self, model: ReferenceModel, store: TokenStore, fit: Fit, *, root: Path, name: str
    ) -> tuple[ReferenceScorer, float]:
        """Return the scorer of a copy of what is trained; the copy is made when it is given the policy."""
        return EMAScorer(model, self, own_logits=fit.own_logits), 0.0

    def refuse_steps(self, total: int) -> None:
        """Raise RunError if the first update comes when nothing is trained any more."""
        if self.every >= total:
            raise RunError(
                f"reference.every={self.every}: this training has {total} optimizer steps, so the reference would never move. "
                f"Use reference.every={max(1, total // 8)}, or reference=frozen."
            )


class EMAScorer(ReferenceScorer):
    """Scores batches with a copy of the trained tensors that is drawn after them: of all weights, or of the adapter."""

    def __init__(self, model: ReferenceModel, settings: EMAReference, *, own_logits: bool) -> None:
        super().__init__()
        self.model, self.settings, self.own_logits = model, settings, own_logits
        self.inner: FrozenScorer | AdapterScorer | None = None

    def follow(self, policy: nn.Module) -> None:
        """Make the copy."""
        if hasattr(policy, "peft_config"):
            self.inner = AdapterScorer(adapter_of(self.model), own_logits=self.own_logits, second=True)
            self.inner.follow(policy)
        else:
            self.inner = FrozenScorer(copy.deepcopy(self.model.load()), own_logits=self.own_logits)

    def forward(self, batch: ResponseBatch) -> ResponseLogps:
        """Return the copy's log-probabilities of the batch."""
        assert self.inner is not None, "follow comes first"
        scored: ResponseLogps = self.inner(batch)
        return scored

    def _pairs(self, policy: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
        """Return each trained tensor of the policy with its copy."""
        if not isinstance(self.inner, FrozenScorer):
            return beside(policy)
        copies = dict(self.inner.model.named_parameters())
        return {name: (weight, copies[name]) for name, weight in policy.named_parameters() if weight.requires_grad}

    @torch.no_grad()
    def after_step(self, policy: nn.Module, step: int) -> None:
        """Draw the copy after the policy if it is time."""
        if step % self.settings.every == 0:
            for weight, kept in self._pairs(policy).values():
                kept.lerp_(weight, self.settings.alpha)

    def state(self, policy: nn.Module) -> dict[str, Tensor]:
        """Return the copy."""
        return {name: kept.detach() for name, (_, kept) in self._pairs(policy).items()}

    @torch.no_grad()
    def continue_from(self, state: dict[str, Tensor], policy: nn.Module) -> None:
        """Take the copy of a checkpoint; the checkpoint's trained tensors have been compared by name already."""
        for name, (_, kept) in self._pairs(policy).items():
            kept.copy_(state[name])
