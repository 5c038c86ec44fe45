"""DPO of ranked lists, under the Plackett-Luce model."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.scoring.logps import PairLogps


@component
class PlackettLuceLoss(PreferenceLoss):
    """DPO under the Plackett-Luce model, Rafailov et al. 2023, appendix A.3, eq. 20 (arXiv:2305.18290).

    -log of the product over places i of exp(r_i) / sum over j >= i of exp(r_j), with r = beta * log(policy / reference) and
    answers in the order of their rank, best first: the probability to choose the best of all, then the best of the rest, and so
    on. Of two answers it is DPO's loss; where policy and reference are one model it is log k! of k answers.

    Three answers, alike under the reference, that the policy has two nats apart each: log(1 + e^-2 + e^-4) + log(1 + e^-2).

    >>> from dpo_lab.scoring.logps import ResponseLogps
    >>> best, ranked = torch.tensor([[0, 2]]), torch.tensor([[0, 1, 2]])
    >>> policy, same = (
    ...     PairLogps(ResponseLogps(torch.tensor(each), torch.tensor([1, 1, 1])), best, ranked=ranked)
    ...     for each in ([-1.0, -3.0, -5.0], [-2.0, -2.0, -2.0])
    ... )
    >>> PlackettLuceLoss(beta=1.0)(policy, same)
    tensor([0.2699])
    """

    takes_lists: ClassVar[bool] = True
    compared: ClassVar[bool] = False  # of held-out pairs it is DPO's loss

    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference, per nat."""

    @property
    def label(self) -> str:
        """Its name."""
        return "plackett_luce"

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per list, shape (pairs,)."""
        lists = policy.lists
        ours, theirs = (each.responses.sums[lists.clamp(min=0)] for each in (policy, reference))
        places = lists.shape[1]
        worse = torch.ones(places, places, dtype=torch.bool, device=lists.device).triu(
            1
        )  # entry (i, j): place j is below place i
        missing = lists < 0
        above = self.beta * (differences(ours) - differences(theirs))  # as DPO subtracts: equal to it in float32 as well
        below = -above.masked_fill(~worse | missing[:, None, :], torch.inf)  # a place that is none adds exp(-inf)
        return F.softplus(below.logsumexp(2)).masked_fill(missing, 0).sum(1)


def differences(values: Tensor) -> Tensor:
    """Return (lists, k, k): the value at place i minus that at place j.

    >>> differences(torch.tensor([[3.0, 1.0]]))
    tensor([[[ 0.,  2.],
             [-2.,  0.]]])
    """
    return values[:, :, None] - values[:, None, :]
