"""SPPO: Self-Play Preference Optimization (Wu et al. 2024), which regresses each log-ratio on a win probability."""

from typing import ClassVar

from pydantic import PositiveFloat
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss, known_labels
from dpo_lab.losses.log_ratios import log_ratios
from dpo_lab.scoring.logps import PairLogps


@component
class SPPOHardLoss(PreferenceLoss):
    """SPPO with certain labels, Wu et al. 2024, eq. 4.7 (arXiv:2405.00675): the chosen response wins with probability 1.

    (a - 1 / (2 beta))^2 + (b + 1 / (2 beta))^2, with a and b the log-ratios of chosen and rejected, and beta = 1 / eta of the
    paper (which has eta = 1000). As in TRL; the authors' code halves it.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> SPPOHardLoss(beta=0.5)(pair_logps(-2.0, -6.0), pair_logps(-2.5, -5.0))  # (0.5 - 1)^2 + (-1 + 1)^2
    tensor([0.2500])
    """

    beta: PositiveFloat = 0.1
    """1 / eta: the log-ratios that the loss aims at are 1 / (2 beta) and -1 / (2 beta) nats."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        chosen, rejected = log_ratios(policy, reference)
        target = 1 / (2 * self.beta)
        return (chosen - target).square() + (rejected + target).square()


@component
class SPPOSoftLoss(PreferenceLoss):
    """SPPO, Wu et al. 2024, eq. 4.7 (arXiv:2405.00675), with the win probability p of the chosen response from the ranker.

    (a - (p - 1/2) / beta)^2 + (b - (1/2 - p) / beta)^2, with a and b the log-ratios of chosen and rejected. p is the pair's
    `preference`, the chosen response against the rejected one, where the paper takes the mean over answers of the policy;
    with p = 1 it is `SPPOHardLoss`.

    >>> import torch
    >>> from dpo_lab.scoring.logps import pair_logps
    >>> from dpo_lab.tokens.labels import PairLabels
    >>> likely = PairLabels(*torch.tensor([[0.75], [0.0], [0.0]]))
    >>> SPPOSoftLoss(beta=0.5)(pair_logps(-2.0, -6.0, labels=likely), pair_logps(-2.5, -5.0))  # (0.5 - 0.5)^2 + (-1 + 0.5)^2
    tensor([0.2500])
    """

    needs_labels: ClassVar[tuple[str, ...]] = ("preference",)

    beta: PositiveFloat = 0.1
    """1 / eta: the log-ratios that the loss aims at are (p - 1/2) / beta and its opposite, nats."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        chosen, rejected = log_ratios(policy, reference)
        target = (known_labels(policy).preference.to(chosen.dtype) - 0.5) / self.beta
        return (chosen - target).square() + (rejected + target).square()
