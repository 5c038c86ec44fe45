"""EXO: efficient exact optimization of alignment (Ji et al. 2024), for pairs."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.log_ratios import log_ratio_margin
from dpo_lab.scoring.logps import PairLogps


@component
class EXOLoss(PreferenceLoss):
    """EXO for preference pairs, Ji et al. 2024, eq. 16 (arXiv:2402.00856): the reverse of DPO's divergence.

    KL(q || (1 - e, e)) = q log(q / (1 - e)) + (1 - q) log((1 - q) / e), with q = sigmoid(beta h) the policy's preference and
    h = its margin minus the reference's. DPO has the arguments the other way round; the label smoothing e keeps this finite.

    At h = 0, q = 1/2: 1/2 log(2/3) + 1/2 log 2 = 1/2 log(4/3) with e = 1/4.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> same = pair_logps(-2.0, -6.0)
    >>> EXOLoss(label_smoothing=0.25)(same, same)
    tensor([0.1438])
    """

    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference, per nat."""
    label_smoothing: Annotated[float, Field(gt=0, lt=0.5)] = 1e-3
    """e: probability that a preference is flipped; TRL's value. At 0 the loss is infinite."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        logit, flipped = self.beta * log_ratio_margin(policy, reference), self.label_smoothing
        as_labelled = torch.sigmoid(logit) * (F.logsigmoid(logit) - math.log1p(-flipped))
        against = torch.sigmoid(-logit) * (F.logsigmoid(-logit) - math.log(flipped))
        return as_labelled + against
