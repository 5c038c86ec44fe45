"""The figures of each pair, for training and for held-out pairs alike."""

from torch import Tensor

from dpo_lab.scoring.logps import PairLogps


def pair_figures(policy: PairLogps, reference: PairLogps, losses: Tensor, beta: float) -> dict[str, Tensor]:
    """Return the figures of each pair under the names of `dpo_lab.figures.TRAINING`, every value of shape (pairs,)."""
    ours, theirs = policy.sums.detach(), reference.sums.detach()
    rewards = beta * (ours - theirs)
    margin = rewards[:, 0] - rewards[:, 1]
    lengths = policy.responses.counts[policy.pairs]
    return {
        "loss": losses.detach(),
        "rewards/chosen": rewards[:, 0],
        "rewards/rejected": rewards[:, 1],
        "rewards/margins": margin,
        "rewards/accuracies": (margin > 0).double(),
        "rewards/accuracies_ties_half": (margin > 0).double() + 0.5 * (margin == 0).double(),
        "logps/chosen": ours[:, 0],
        "logps/rejected": ours[:, 1],
        "logps/chosen_per_token": ours[:, 0] / lengths[:, 0],
        "logps/rejected_per_token": ours[:, 1] / lengths[:, 1],
        "kl/implicit": (ours - theirs).mean(1),
        "lengths/chosen": lengths[:, 0],
        "lengths/rejected": lengths[:, 1],
    }
