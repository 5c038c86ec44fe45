"""ORPO: monolithic preference optimization without a reference model (Hong et al. 2024)."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.scoring.logps import PairLogps

LARGEST_MEAN = -1e-6  # nats per token; a response that is certain has infinite odds


def log_odds(mean_logps: Tensor) -> Tensor:
    """Return log(p / (1 - p)) of p = exp(mean log-probability of a token), which is held at 1 - 1e-6 at most.

    >>> log_odds(torch.tensor([0.5, 0.9]).log())  # odds 1 and 9
    tensor([0.0000, 2.1972])
    """
    mean_logps = mean_logps.clamp(max=LARGEST_MEAN)
    return mean_logps - torch.log(-torch.expm1(mean_logps))


@component
class ORPOLoss(PreferenceLoss):
    """Odds ratio preference optimization, Hong et al. 2024, eq. 6 and 7 (arXiv:2403.07691); no reference.

    -m_chosen - beta log sigmoid(log odds(chosen) - log odds(rejected)), with m = log p of a response / its tokens and
    odds = e^m / (1 - e^m). The first term is the paper's SFT loss; beta is its lambda.

    Equal odds leave log 1/2 and beta log 2: log 2 * (1 + 0.1).

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> policy = pair_logps(-0.693147, -2 * 0.693147, tokens=(1, 2))
    >>> ORPOLoss(beta=0.1)(policy, policy)
    tensor([0.7625])
    """

    needs_reference: ClassVar[bool] = False

    beta: PositiveFloat = 0.1
    """The paper's lambda: weight of the odds ratio; it uses 0.1 to 1."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        chosen, rejected = policy.chosen / policy.chosen_tokens, policy.rejected / policy.rejected_tokens
        return -chosen - self.beta * F.logsigmoid(log_odds(chosen) - log_odds(rejected))
