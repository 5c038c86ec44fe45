"""Pairs whose two answers are the same to the model."""

from statistics import fmean

from dpo_lab.amounts import short
from dpo_lab.evaluation.health.base import Finding, History
from dpo_lab.evaluation.health.progress import stuck_at_start

SHARE = 0.02
"""Of pairs with a margin of exactly 0, once the policy has moved."""


def identical_pairs(history: History) -> Finding | None:
    """Return a finding if pairs keep a margin of exactly 0 while others move: chosen and rejected are the same tokens.

    A tie counts half in one accuracy and not at all in the other, so their difference is half the share of ties. While the
    policy has hardly moved from its reference, rounding makes ties: the second half of the rows is looked at, and no training
    that is stuck. Pairs that were left out for the same reason, before training, are counted instead where there are any.
    """
    remedy = "a larger recipe.max_length if answers are cut, else leave such pairs out of the data"
    if history.same_tokens > SHARE * (history.pairs + history.same_tokens):
        of_all = history.pairs + history.same_tokens
        said = f"{history.same_tokens} of {of_all} pairs have the same tokens on both sides after cutting and were left out"
        return Finding(name="identical_pairs", round=history.round, said=said, remedy=remedy)
    half, strict = history.values("rewards/accuracies_ties_half"), history.values("rewards/accuracies")
    ties = [2 * (one - other) for one, other in zip(half, strict, strict=False)][(len(half) + 1) // 2 :]
    if not ties or not history.enough(10) or not (share := fmean(ties)) > SHARE or stuck_at_start(history):
        return None
    return Finding(
        name="identical_pairs",
        round=history.round,
        said=f"{short(share)} of the pairs keep a margin of exactly 0: both answers are the same tokens, perhaps cut alike",
        remedy=remedy,
    )
