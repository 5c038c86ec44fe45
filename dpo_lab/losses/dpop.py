"""DPOP: DPO-Positive (Pal et al. 2024), which keeps the chosen response as likely as the reference has it."""

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.links import logistic
from dpo_lab.losses.log_ratios import log_ratios
from dpo_lab.scoring.logps import PairLogps


@component
class DPOPLoss(PreferenceLoss):
    """DPO-Positive, Pal et al. 2024, eq. 3 (Smaug, arXiv:2402.13228).

    -log sigmoid(beta * [a - b - penalty * max(0, -a)]), with a and b the log-ratios of chosen and rejected: a chosen response
    that is less likely than under the reference costs `penalty` (the paper's lambda) times its loss.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> DPOPLoss(beta=0.1, penalty=4.0)(pair_logps(-3.0, -6.0), pair_logps(-2.5, -4.0))  # -0.5 + 2 - 4 * 0.5 = -0.5
    tensor([0.7185])
    """

    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference, per nat; the paper has 0.3."""
    penalty: NonNegativeFloat = 50.0
    """The paper's lambda, per nat that the chosen response lost; it has 50. 0 is DPO."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        chosen, rejected = log_ratios(policy, reference)
        return logistic(self.beta * (chosen - rejected - self.penalty * (-chosen).relu()))
