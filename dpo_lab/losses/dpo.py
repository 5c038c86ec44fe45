"""Direct Preference Optimization (Rafailov et al. 2023), and its conservative form (Mitchell 2023)."""

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field, PositiveFloat
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.scoring.logps import PairLogps


@component
class DPOLoss(PreferenceLoss):
    """Direct preference optimization, Rafailov et al. 2023, eq. 7 (arXiv:2305.18290).

    -log sigmoid(beta * [(chosen - rejected) under the policy - the same under the reference]).
    With label smoothing e it is cDPO (Mitchell 2023, eq. 3): labels are wrong with probability e.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> DPOLoss(beta=0.1)(pair_logps(-2.0, -6.0), pair_logps(-2.5, -5.0))
    tensor([0.6210])
    """

    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference, per nat; papers use 0.01 to 0.5."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Probability that a preference is flipped."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        logit = self.beta * (policy.margin - reference.margin)
        return -(1 - self.label_smoothing) * F.logsigmoid(logit) - self.label_smoothing * F.logsigmoid(-logit)
