"""Whether a training learns anything: stuck where it began, or done long before its end."""

from dpo_lab.amounts import short
from dpo_lab.evaluation.health.base import Finding, History

NEAR = 0.01
"""Share of the first loss within which a loss has not moved."""
DONE, RIGHT = 0.02, 0.995
"""Share of the first loss below which nothing is left to learn, and share of pairs that are then ranked rightly."""


def stuck_at_start(history: History) -> Finding | None:
    """Return a finding if no part of the training has moved the loss away from its first value (log 2 for DPO)."""
    losses = history.values("loss")
    if not losses or not history.enough(10):
        return None
    scale = max(abs(losses[0]), 1e-9)
    if any(abs(loss - losses[0]) > NEAR * scale for loss in losses):
        return None
    return Finding(
        name="stuck_at_start",
        round=history.round,
        said=f"the loss stays at its start, {short(losses[0])}, for all {len(losses)} rows: nothing is learned",
        remedy="a higher optim.lr; if that changes nothing, debug=overfit, which asks whether these pairs can be learned at all",
    )


def saturation(history: History) -> Finding | None:
    """Return a finding if the loss is all but zero and every pair is ranked rightly: the gradient has vanished."""
    losses, accuracy, now = history.values("loss"), history.recent("rewards/accuracies"), history.recent("loss")
    if accuracy is None or now is None or not history.enough(10) or losses[0] <= 0:
        return None
    if now > DONE * losses[0] or accuracy < RIGHT:
        return None
    return Finding(
        name="saturation",
        round=history.round,
        said=f"the loss fell from {losses[0]:.2g} to {now:.2g}: every training pair is ranked rightly and teaches no more",
        remedy="fewer trainer.epochs or a lower optim.lr; more pairs, or closer ones (pairing=best_vs_second)",
    )
