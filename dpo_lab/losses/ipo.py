"""Identity Preference Optimization (Azar et al. 2023)."""

from pydantic import PositiveFloat
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.links import squared
from dpo_lab.losses.log_ratios import Reduction, log_ratio_margin
from dpo_lab.scoring.logps import PairLogps


@component
class IPOLoss(PreferenceLoss):
    """Identity preference optimization, Azar et al. 2023, eq. 17 (arXiv:2310.12036).

    (h - 1 / (2 beta))^2 with h = the policy's margin minus the reference's; beta is the paper's tau.
    With reduction `mean` each response's log-ratio is divided by its number of tokens, as TRL does and the authors
    confirmed to its maintainers; with `sum` it is the paper's formula, as in the first DPO code.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> IPOLoss(beta=0.5, reduction="sum")(pair_logps(-2.0, -6.0), pair_logps(-2.5, -5.0))
    tensor([0.2500])
    """

    beta: PositiveFloat = 0.1
    """tau: the margin that the loss aims at is 1 / (2 beta) nats (per token with `mean`)."""
    reduction: Reduction = "mean"
    """Whether a response counts by its mean or its summed log-ratio."""

    @property
    def label(self) -> str:
        """ipo or ipo_sum."""
        return "ipo" if self.reduction == "mean" else "ipo_sum"

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        return squared(log_ratio_margin(policy, reference, self.reduction), self.beta)
