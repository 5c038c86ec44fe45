"""Weighted sums of losses."""

from collections.abc import Sequence

from pydantic import NonNegativeFloat, ValidationInfo, field_validator
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.scoring.logps import PairLogps


@component
class MixtureLoss(PreferenceLoss):
    """Several losses at once: the sum of weight times loss; it needs what its losses need.

    DPO + NLL is RPO (Pang et al. 2024, eq. 1, arXiv:2404.19733); 0.8 DPO + 0.2 BCO + 1.0 NLL is the mixed preference
    optimization of InternVL (Wang et al. 2024, eq. 3, arXiv:2411.10442). Logged rewards have the beta of the first loss.

    >>> from dpo_lab.losses.dpo import DPOLoss
    >>> from dpo_lab.losses.nll import NLLLoss
    >>> from dpo_lab.scoring.logps import pair_logps
    >>> same = pair_logps(-6.0, -9.0, tokens=(3, 3))
    >>> both = MixtureLoss(losses={"dpo": DPOLoss(), "nll": NLLLoss()}, weights={"dpo": 1.0, "nll": 0.5})
    >>> both(same, same)  # log 2 + 0.5 * 2
    tensor([1.6931])
    """

    losses: dict[str, PreferenceLoss]
    """Name -> loss."""
    weights: dict[str, NonNegativeFloat]
    """The same names -> weight."""

    @property
    def label(self) -> str:
        """The names of the losses."""
        return "+".join(self.losses)

    @field_validator("weights")
    @classmethod
    def _every_loss_has_a_weight(cls, weights: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        names = set(info.data.get("losses", weights))  # absent if the losses were refused themselves
        if names != set(weights) or not names:
            named, weighted = (", ".join(sorted(each)) or "nothing" for each in (names, weights))
            raise ValueError(f"the losses are {named} and the weights of {weighted}; every loss needs one weight of its name")
        if not any(weights.values()):
            raise ValueError("every weight is 0, so nothing would be trained; give at least one loss a weight above 0")
        return weights

    @property
    def inner(self) -> Sequence[PreferenceLoss]:
        """The losses of the sum."""
        return tuple(self.losses.values())

    @property
    def beta(self) -> float:
        """That of the first loss."""
        return self.inner[0].beta

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        first, *rest = (self.weights[name] * loss(policy, reference) for name, loss in self.losses.items())
        return sum(rest, first)
