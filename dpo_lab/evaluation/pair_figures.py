"""The figures of each pair, for training and for held-out pairs alike; of a ranked list those of its best and worst answer."""

import torch
from torch import Tensor

from dpo_lab.scoring.logps import PairLogps


def pair_figures(policy: PairLogps, reference: PairLogps, losses: Tensor, beta: float) -> dict[str, Tensor]:
    """Return the figures of each pair under the names of `dpo_lab.figures.TRAINING`, every value of shape (pairs,).

    Of ranked lists: `chosen` is the best and `rejected` the worst answer; accuracies are shares of all ordered pairs of the list.
    """
    ours, theirs = policy.sums.detach(), reference.sums.detach()
    rewards = beta * (ours - theirs)
    margin = rewards[:, 0] - rewards[:, 1]
    strict, ties_half = accuracies(policy, reference, margin)
    lengths = policy.responses.counts[policy.pairs]
    return {
        "loss": losses.detach(),
        "rewards/chosen": rewards[:, 0],
        "rewards/rejected": rewards[:, 1],
        "rewards/margins": margin,
        "rewards/accuracies": strict,
        "rewards/accuracies_ties_half": ties_half,
        "logps/chosen": ours[:, 0],
        "logps/rejected": ours[:, 1],
        "logps/chosen_per_token": ours[:, 0] / lengths[:, 0],
        "logps/rejected_per_token": ours[:, 1] / lengths[:, 1],
        "kl/implicit": (ours - theirs).mean(1),
        "lengths/chosen": lengths[:, 0],
        "lengths/rejected": lengths[:, 1],
    }


def accuracies(policy: PairLogps, reference: PairLogps, margin: Tensor) -> tuple[Tensor, Tensor]:
    """Return the share of ordered pairs of each item whose better answer has the larger log-ratio: strictly, with ties as half.

    Where ties count half, log-ratios that float32 cannot tell apart are one: before the first step, policy and reference are one
    model, and what is left of their difference is rounding.

    Args:
        margin: (pairs,) of the first answer against the last, which is all there is of a pair.
    """
    ours, theirs = policy.responses.sums.detach(), reference.responses.sums.detach()
    ratios, rounding = ours - theirs, torch.finfo(torch.float32).eps * (ours.abs() + theirs.abs())
    if policy.ranked is None:
        gaps, noise = ratios[policy.pairs].double(), rounding[policy.pairs].sum(1)
        tied = (gaps[:, 0] - gaps[:, 1]).abs() <= noise
        return (margin > 0).double(), (margin > 0).double().where(~tied, 0.5)
    places = policy.ranked.clamp(min=0)
    gaps, noise = (values[places][:, :, None] for values in (ratios, rounding))
    gaps, tied = gaps - gaps.mT, (gaps - gaps.mT).abs() <= noise + noise.mT
    here = policy.ranked >= 0
    ordered = torch.triu(here[:, :, None] & here[:, None, :], diagonal=1)
    over, half = (gaps > 0).double(), (gaps > 0).double().where(~tied, 0.5)
    count = ordered.sum((1, 2))
    return (over * ordered).sum((1, 2)) / count, (half * ordered).sum((1, 2)) / count
