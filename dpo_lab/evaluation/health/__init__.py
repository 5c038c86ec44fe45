"""What goes wrong with a training, found in its figures: likelihood displacement, length drift, a ranker that is gamed, ..."""

from collections.abc import Callable

from dpo_lab.evaluation.health.base import Finding, History
from dpo_lab.evaluation.health.displacement import likelihood_displacement
from dpo_lab.evaluation.health.drift import kl_budget, length_drift
from dpo_lab.evaluation.health.judged import answers_degrade, ranker_and_judge_part
from dpo_lab.evaluation.health.losses import held_out_loss_rises, training_loss_rises
from dpo_lab.evaluation.health.pairs import identical_pairs
from dpo_lab.evaluation.health.progress import saturation, stuck_at_start

__all__ = [
    "CHECKS",
    "Finding",
    "History",
    "answers_degrade",
    "findings_of",
    "held_out_loss_rises",
    "identical_pairs",
    "kl_budget",
    "length_drift",
    "likelihood_displacement",
    "ranker_and_judge_part",
    "saturation",
    "stuck_at_start",
    "training_loss_rises",
]

CHECKS: tuple[Callable[[History], Finding | None], ...] = (
    stuck_at_start,
    identical_pairs,
    training_loss_rises,
    held_out_loss_rises,
    answers_degrade,
    ranker_and_judge_part,
    likelihood_displacement,
    kl_budget,
    length_drift,
    saturation,
)
"""The most serious first: the verdict names the first."""


def findings_of(history: History) -> list[Finding]:
    """Return what is wrong with a training, the most serious first."""
    return [finding for check in CHECKS if (finding := check(history))]
