"""BCO: Binary Classifier Optimization (Jung et al. 2024), for pairs."""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.log_ratios import log_ratios
from dpo_lab.scoring.logps import PairLogps


@component
class BCOLoss(PreferenceLoss):
    """Binary classifier optimization, Jung et al. 2024, eq. 8 (arXiv:2404.04656).

    -log sigmoid(beta a - shift) - log sigmoid(shift - beta b), with a and b the log-ratios of chosen and rejected, and the
    shift the mean of all rewards beta a and beta b (eq. 7), without gradient. The paper keeps a moving average of that mean
    over the steps; here it is the mean over the optimizer step, so that a step is a function of its pairs alone and a
    continued run has nothing to restore. TRL 1.16 has no shift in its pair form: `zero`.

    Two pairs with rewards 3, 1 and 3, 1: the shift is 2, each term log(1 + e^-1) = 0.3133.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> BCOLoss(beta=1.0)(pair_logps([-2.0, -2.0], [-4.0, -4.0]), pair_logps([-5.0, -5.0], [-5.0, -5.0]))
    tensor([0.6265, 0.6265])
    """

    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference, per nat."""
    shift: Literal["step", "zero"] = "step"
    """The reward that divides chosen from rejected: the mean over the optimizer step, or zero."""

    @property
    def couples_pairs(self) -> bool:
        """True if the shift is a mean over pairs."""
        return self.shift == "step"

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        chosen, rejected = (self.beta * ratio for ratio in log_ratios(policy, reference))
        shift = torch.cat([chosen, rejected]).mean().detach() if self.shift == "step" else 0.0
        return -F.logsigmoid(chosen - shift) - F.logsigmoid(shift - rejected)
