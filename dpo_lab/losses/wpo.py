"""WPO: weighted preference optimization (Zhou et al. 2024), for any loss."""

from typing import ClassVar

from pydantic import field_validator
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.scoring.logps import PairLogps


@component
class WPOLoss(PreferenceLoss):
    """Weighted preference optimization, Zhou et al. 2024, eq. 1 (arXiv:2406.11827): pairs count by how likely they are written.

    The loss of a pair times w(chosen) w(rejected), with w = exp(mean over tokens of [log p(token) - log sum of p(v)^2]), v over
    the vocabulary (eq. 2): the likelihood of a token against that of one drawn from the policy. Weights carry no gradient; they
    exceed 1 where the answer is more likely than a draw, and TRL 1.16 leaves them so.

    Tokens as likely as drawn ones weigh 1, those half as likely 1/2; one of each: 1/2 log 2.

    >>> import torch
    >>> from dpo_lab.losses.dpo import DPOLoss
    >>> from dpo_lab.scoring.logps import ResponseLogps
    >>> per_token, squares = torch.tensor([0.5, 0.25]).log(), torch.tensor([0.5, 0.5]).log()
    >>> same = PairLogps(ResponseLogps(per_token, torch.tensor([1, 1]), squares), torch.tensor([[0, 1]]))
    >>> WPOLoss(loss=DPOLoss())(same, same)
    tensor([0.3466])
    """

    needs_full_softmax: ClassVar[bool] = True

    loss: PreferenceLoss
    """What is weighted."""

    @property
    def beta(self) -> float:
        """That of the loss inside."""
        return self.loss.beta

    @field_validator("loss")
    @classmethod
    def _has_a_value_for_each_pair(cls, loss: PreferenceLoss) -> PreferenceLoss:
        if loss.couples_pairs:
            raise ValueError(
                "its values belong to the whole step, and a weight belongs to one pair; choose a loss of single pairs"
            )
        return loss

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        responses = policy.responses
        if responses.log_sum_squares is None:
            raise ValueError("WPO reads log_sum_squares, which is missing: score the policy with full_softmax=True")
        log_weights = responses.total((responses.per_token - responses.log_sum_squares).detach()) / responses.counts
        return log_weights[policy.pairs].sum(dim=1).exp() * self.loss(policy, reference)
