"""Log-ratios of policy and reference: what most losses read, summed over a response or per token."""

from typing import Literal

import torch
from torch import Tensor

from dpo_lab.scoring.logps import PairLogps, ResponseLogps

Reduction = Literal["sum", "mean"]
"""Whether a response counts by its summed log-ratio, as in the papers, or by the mean over its tokens."""


def log_ratios(policy: PairLogps, reference: PairLogps, reduction: Reduction = "sum") -> tuple[Tensor, Tensor]:
    """Return log(policy / reference) of the chosen and of the rejected responses, (pairs,) each.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> log_ratios(pair_logps(-2.0, -6.0, tokens=(5, 2)), pair_logps(-2.5, -5.0, tokens=(5, 2)), "mean")
    (tensor([0.1000]), tensor([-0.5000]))
    """
    chosen, rejected = policy.chosen - reference.chosen, policy.rejected - reference.rejected
    if reduction == "mean":
        return chosen / policy.chosen_tokens, rejected / policy.rejected_tokens
    return chosen, rejected


def log_ratio_margin(policy: PairLogps, reference: PairLogps, reduction: Reduction = "sum") -> Tensor:
    """Return how much more the policy prefers the chosen response than the reference does, nats, (pairs,).

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> log_ratio_margin(pair_logps(-2.0, -6.0), pair_logps(-2.5, -5.0))
    tensor([1.5000])
    """
    if reduction == "sum":  # in this order, as in the first DPO code: equal to it in float32 as well
        return policy.margin - reference.margin
    chosen, rejected = log_ratios(policy, reference, reduction)
    return chosen - rejected


def with_sums(pairs: PairLogps, chosen: Tensor, rejected: Tensor) -> PairLogps:
    """Return the same pairs with other log-probabilities of the whole responses, spread evenly over their tokens.

    For losses that put another quantity in the place of log-probabilities and leave the rest to a loss that they hold.
    A response that stands in several pairs counts separately in each: the quantity may depend on the pair.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> with_sums(pair_logps(-2.0, -6.0, tokens=(5, 2)), torch.tensor([-1.0]), torch.tensor([-3.0])).responses.per_token
    tensor([-0.2000, -0.2000, -0.2000, -0.2000, -0.2000, -1.5000, -1.5000])
    """
    sums = torch.stack([chosen, rejected], dim=1).flatten()
    counts = pairs.responses.counts[pairs.pairs].flatten()
    per_token = (sums / counts).repeat_interleave(counts)
    return PairLogps(ResponseLogps(per_token, counts), torch.arange(len(counts), device=counts.device).view(-1, 2), pairs.labels)
