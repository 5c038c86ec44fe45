"""NCA: Noise Contrastive Alignment (Chen et al. 2024), for pairs."""

import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.log_ratios import log_ratios
from dpo_lab.scoring.logps import PairLogps


@component
class NCALoss(PreferenceLoss):
    """Noise contrastive alignment with one preferred response, Chen et al. 2024, table 1 (arXiv:2402.05369).

    -log sigmoid(beta a) - 1/2 log sigmoid(-beta a) - 1/2 log sigmoid(-beta b), with a and b the log-ratios of chosen and
    rejected: each response against its own noise, so that likelihoods do not fall together.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> same = pair_logps(-2.0, -6.0)
    >>> NCALoss()(same, same)  # 2 log 2
    tensor([1.3863])
    """

    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference, per nat."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        chosen, rejected = (self.beta * ratio for ratio in log_ratios(policy, reference))
        return -F.logsigmoid(chosen) - 0.5 * F.logsigmoid(-chosen) - 0.5 * F.logsigmoid(-rejected)
