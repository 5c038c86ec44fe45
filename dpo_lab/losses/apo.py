"""APO: Anchored Preference Optimization (D'Oosterlinck et al. 2024), which says where each likelihood should go."""

import torch
from pydantic import PositiveFloat
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.log_ratios import log_ratios
from dpo_lab.scoring.logps import PairLogps


@component
class APOZeroLoss(PreferenceLoss):
    """APO-zero, D'Oosterlinck et al. 2024, eq. 7 (arXiv:2408.06266): chosen likelihood up, rejected likelihood down.

    1 - sigmoid(beta a) + sigmoid(beta b), with a and b the log-ratios of chosen and rejected; for data that are better than
    the model. The paper's loss is without the constant 1, which TRL adds.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> APOZeroLoss(beta=1.0)(pair_logps(-2.0, -6.0), pair_logps(-2.0, -4.901388))  # b = -log 3: 1 - 1/2 + 1/4
    tensor([0.7500])
    """

    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference, per nat."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        chosen, rejected = log_ratios(policy, reference)
        return 1 - torch.sigmoid(self.beta * chosen) + torch.sigmoid(self.beta * rejected)


@component
class APODownLoss(PreferenceLoss):
    """APO-down, D'Oosterlinck et al. 2024, eq. 8 (arXiv:2408.06266): both likelihoods down, the rejected one further.

    sigmoid(beta a) + 1 - sigmoid(beta (a - b)), with a and b the log-ratios of chosen and rejected; for a model that is better
    than the data. The paper's loss is without the constant 1, which TRL adds.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> APODownLoss(beta=1.0)(pair_logps(-2.0, -6.0), pair_logps(-2.0, -4.901388))  # a - b = log 3: 1/2 + 1 - 3/4
    tensor([0.7500])
    """

    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference, per nat."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        chosen, rejected = log_ratios(policy, reference)
        return torch.sigmoid(self.beta * chosen) + 1 - torch.sigmoid(self.beta * (chosen - rejected))
