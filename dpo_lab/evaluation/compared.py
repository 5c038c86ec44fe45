"""Losses on the same held-out log-probabilities, with fixed numbers, so that runs with different losses compare."""

from torch import Tensor

from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.options import loss_options, with_defaults
from dpo_lab.scoring.logps import PairLogps


def compared_losses(loss: PreferenceLoss, *, has_reference: bool) -> dict[str, PreferenceLoss]:
    """Return the losses that are computed on the held-out pairs of a run beside its own, by the name of their figure.

    They are the options of conf/loss and, if no option has its class, the run's loss, all with the defaults of their classes.

    Args:
        loss: what the run trains with.
        has_reference: False leaves out the losses that compare with a reference.
    """
    options = loss_options()
    candidates = dict(options)
    if type(loss) not in map(type, options.values()):
        candidates.setdefault(loss.label, with_defaults(loss))
    return {
        name: other
        for name, other in candidates.items()
        if other.compared and not other.needs_full_softmax and (has_reference or not other.needs_reference)
    }


def compared_values(loss: PreferenceLoss, policy: PairLogps, reference: PairLogps, *, has_reference: bool) -> dict[str, Tensor]:
    """Return every compared loss of all pairs at once, each of shape (pairs,).

    Args:
        policy: with labels; losses that read one which some pair lacks are left out.
    """
    values: dict[str, Tensor] = {}
    for name, other in compared_losses(loss, has_reference=has_reference).items():
        if not any(bool(getattr(policy.labels, label).isnan().any()) for label in other.needs_labels):
            values[name] = other(policy, reference).double()
    return values
