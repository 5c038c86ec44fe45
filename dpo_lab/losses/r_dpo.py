"""R-DPO: disentangling length from quality (Park et al. 2024)."""

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.links import logistic
from dpo_lab.losses.log_ratios import log_ratio_margin
from dpo_lab.scoring.logps import PairLogps


@component
class RDPOLoss(PreferenceLoss):
    """Length-regularised DPO, Park et al. 2024 (arXiv:2403.19159): DPO for a reward minus alpha per token.

    -log sigmoid(beta h + alpha (n_chosen - n_rejected)), h = the policy's margin minus the reference's, n = tokens. A chosen
    response that is longer already explains the preference by its length and is pushed less.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> policy, reference = pair_logps(-2.0, -6.0, tokens=(2, 5)), pair_logps(-2.5, -5.0, tokens=(2, 5))
    >>> RDPOLoss(beta=0.2, alpha=0.1)(policy, reference)  # 0.2 * 1.5 - 0.1 * 3 = 0
    tensor([0.6931])
    """

    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference, per nat."""
    alpha: NonNegativeFloat = 0.01
    """Price of a token, in units of reward; 0 is DPO."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        margin = log_ratio_margin(policy, reference)
        longer = (policy.chosen_tokens - policy.rejected_tokens).to(margin.dtype)
        return logistic(self.beta * margin + self.alpha * longer)
