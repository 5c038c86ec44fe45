"""A loss that goes the wrong way: on the pairs that are trained on, or on those held out."""

from dpo_lab.evaluation.health.base import Finding, History

RISEN = 0.1
"""Share by which a training loss has to rise above its start, or the final held-out loss above that before: steps are noisy."""
FROM_BEST = 0.02
"""Share by which a held-out loss has to rise above its best value so far."""
SOFTER = "a lower optim.lr, or a larger loss.beta"


def number(value: float) -> str:
    """Return a loss with three digits that say something."""
    return f"{value:.3g}"


def training_loss_rises(history: History) -> Finding | None:
    """Return a finding if the loss ends above where it began."""
    first, now = history.first("loss"), history.recent("loss")
    if first is None or now is None or not history.enough(10) or now - first <= RISEN * max(abs(first), 1e-9):
        return None
    return Finding(
        name="training_loss_rises",
        round=history.round,
        said=f"the training loss rose from {number(first)} to {number(now)}",
        remedy=SOFTER,
    )


def held_out_loss_rises(history: History) -> Finding | None:
    """Return a finding if the held-out loss has risen: above its best value so far while that of training falls, or above that
    of the model before."""
    name, values = "eval/loss", history.values("eval/loss")
    now, before = history.newest(name), history.after.get("eval/loss/before")
    first, recent = history.first("loss"), history.recent("loss")
    if now is None:
        return None
    if before is not None and now - before > RISEN * max(abs(before), 1e-9):
        return Finding(
            name="held_out_loss_rises",
            round=history.round,
            said=f"the held-out loss rose from {number(before)} to {number(now)}",
            remedy=SOFTER,
        )
    best = min(values, default=now)
    falls = first is not None and recent is not None and recent < first
    if not falls or now - best <= FROM_BEST * max(abs(best), 1e-9):
        return None
    at = next(row["step"] for row in history.rows if row.get(name) == best)
    return Finding(
        name="held_out_loss_rises",
        round=history.round,
        said=f"the held-out loss rose from {number(best)} after step {at} to {number(now)}, while that of training falls",
        remedy=(
            "fewer trainer.epochs, a lower optim.lr, or callbacks=early_stopping callbacks.early_stopping.metric=eval/loss "
            "callbacks.early_stopping.window=1"
        ),
    )
