"""DiscoPOP: a loss that a language model discovered (Lu et al. 2024)."""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.links import logistic
from dpo_lab.losses.log_ratios import log_ratio_margin
from dpo_lab.scoring.logps import PairLogps


@component
class DiscoPOPLoss(PreferenceLoss):
    """Log-ratio modulated loss, Lu et al. 2024, eq. 5 (arXiv:2406.08414): logistic for small logits, exponential for large ones.

    (1 - m) * -log sigmoid(x) + m * e^-x, with x = beta * (the policy's margin - the reference's) and m = sigmoid(x / tau).
    Not convex; at x = 0 it is (log 2 + 1) / 2.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> same = pair_logps(-2.0, -6.0)
    >>> DiscoPOPLoss()(same, same)
    tensor([0.8466])
    """

    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference, per nat."""
    tau: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """How sharply one form passes into the other; the paper's value. From 1 on, e^-x would win at x -> -infinity."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        logit = self.beta * log_ratio_margin(policy, reference)
        # m * e^-x in one exponent: apart they are 0 and infinity for a logit of -100
        exponential = torch.exp(F.logsigmoid(logit / self.tau) - logit)
        return torch.sigmoid(-logit / self.tau) * logistic(logit) + exponential
