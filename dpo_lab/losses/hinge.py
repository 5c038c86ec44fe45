"""The hinge loss on DPO's logit (SLiC-HF, Zhao et al. 2023; RSO, Liu et al. 2023)."""

from pydantic import PositiveFloat
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.links import hinge
from dpo_lab.losses.log_ratios import log_ratio_margin
from dpo_lab.scoring.logps import PairLogps


@component
class HingeLoss(PreferenceLoss):
    """Hinge of SLiC-HF (Zhao et al. 2023, arXiv:2305.10425), with a reference: RSO, Liu et al. 2023, eq. 10 (arXiv:2309.06657).

    max(0, 1 - beta h) with h = the policy's margin minus the reference's: a pair that is far enough apart no longer counts.
    SLiC-HF itself has no reference and adds a likelihood term: a mixture with `NLLLoss`.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> HingeLoss(beta=0.1)(pair_logps(-2.0, -6.0), pair_logps(-2.5, -5.0))  # 1 - 0.1 * 1.5
    tensor([0.8500])
    """

    beta: PositiveFloat = 0.1
    """Per nat; 1 / beta is the margin at which a pair stops counting."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        return hinge(self.beta * log_ratio_margin(policy, reference))
