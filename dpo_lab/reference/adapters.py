"""References that are the policy's own base: no second model, no kept pass."""

from pathlib import Path
from typing import ClassVar

from torch import nn

from dpo_lab.components import RunError, component
from dpo_lab.layouts.base import ResponseBatch
from dpo_lab.models.adapted import REFERENCE, AdapterSwitch
from dpo_lab.models.adapter import add_reference_adapter
from dpo_lab.models.directory import ADAPTER_CONFIG
from dpo_lab.models.load import evaluating
from dpo_lab.reference.base import Reference, ReferenceModel, ReferenceScorer
from dpo_lab.scoring.fitting import Fit
from dpo_lab.scoring.logps import ResponseLogps
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore


@component
class AdapterOffReference(Reference):
    """The base without its adapter, scored on every micro-batch: the same rounding as the policy, so step 0 is exact."""

    exact: ClassVar[bool] = True
    needs_adapter: ClassVar[bool] = True

    def scorer(
        self, model: ReferenceModel, store: TokenStore, fit: Fit, *, root: Path, name: str
    ) -> tuple[ReferenceScorer, float]:
        """Return the scorer of the policy's base.

        Raises:
            RunError: if the reference has an adapter itself, so that switching it off gives another model.
        """
        if adapter_of(model):
            raise RunError(
                f"reference=adapter_off: the reference {model.path} is a base with an adapter, and without it another model. "
                "Use reference=previous_adapter, or reference=cached."
            )
        return AdapterScorer(None, own_logits=fit.own_logits), 0.0


@component
class PreviousAdapterReference(Reference):
    """The base with the adapter that the reference has, kept frozen beside the one that is trained."""

    exact: ClassVar[bool] = True
    needs_adapter: ClassVar[bool] = True
    keeps_adapter: ClassVar[bool] = True

    def scorer(
        self, model: ReferenceModel, store: TokenStore, fit: Fit, *, root: Path, name: str
    ) -> tuple[ReferenceScorer, float]:
        """Return the scorer of base and earlier adapter; of the base alone where there is none yet."""
        return AdapterScorer(adapter_of(model), own_logits=fit.own_logits), 0.0


def adapter_of(model: ReferenceModel) -> Path | None:
    """Return the directory of the reference's adapter, None if it has none."""
    return model.path if (model.path / ADAPTER_CONFIG).exists() else None


class AdapterScorer(ReferenceScorer):
    """Scores batches with the policy's base, under an earlier adapter or none, always without dropout.

    Args:
        second: have a second adapter in any case, for a reference that is to move away from the base.
    """

    def __init__(self, previous: Path | None, *, own_logits: bool, second: bool = False) -> None:
        super().__init__()
        self.previous, self.own_logits, self.second = previous, own_logits, second or previous is not None

    def follow(self, policy: nn.Module) -> None:
        """Take the policy whose base this is; the earlier adapter is loaded onto it."""
        if self.second:
            add_reference_adapter(policy, self.previous)
        self._policy = (policy,)  # in a tuple: no submodule, the policy has its place in the LightningModule
        self._switched = AdapterSwitch(policy, REFERENCE if self.second else None)

    def forward(self, batch: ResponseBatch) -> ResponseLogps:
        """Return the log-probabilities of the batch under the reference."""
        (policy,) = self._policy
        with evaluating(policy), self._switched():
            return score(policy, batch, own_logits=self.own_logits)
