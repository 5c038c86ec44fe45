"""References that do not go together with the loss, the adapter or the rounds."""

from collections.abc import Callable

from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.models.spec import ModelSpec
from dpo_lab.reference.base import Reference
from dpo_lab.training.iteration import Iteration


def reference_that_a_loss_needs(reference: Reference, loss: PreferenceLoss) -> str | None:
    """Most losses compare the policy with a frozen reference."""
    if reference.compares or not loss.needs_reference:
        return None
    return "reference=none leaves this loss nothing to compare with; use reference=cached, or a loss that needs none: loss=simpo."


def reference_that_a_policy_cannot_be(model: ModelSpec, reference: Reference, loss: PreferenceLoss) -> str | None:
    """References without a second model are the policy's base, which only an adapter leaves as it was."""
    if not reference.needs_adapter or not model.adapter.trains_all:
        return None
    name = "previous_adapter" if reference.keeps_adapter else "adapter_off"
    other = "cached" if loss.needs_reference else "none"
    return f"reference={name} is the policy's base, and adapter=none trains every weight; use reference={other}."


def reference_before_all_rounds(model: ModelSpec, reference: Reference, iteration: Iteration) -> str | None:
    """The base without its adapter is the model before the first round, whatever round it is."""
    if not reference.needs_adapter or reference.keeps_adapter or model.adapter.trains_all:
        return None
    if iteration.reference == "first" or iteration.rounds == 1:
        return None
    return (
        "reference=adapter_off is the model before all rounds, and iteration.reference=previous asks for that before each; "
        "use reference=previous_adapter, or iteration.reference=first."
    )


def reference_that_moves_for_nothing(reference: Reference, loss: PreferenceLoss) -> str | None:
    """A reference that follows the policy changes what the loss compares with; rewards against it would mean nothing."""
    if not reference.moves or loss.needs_reference:
        return None
    return "this loss uses no reference, so reference=ema has no effect; use reference=none."


RULES: tuple[Callable[..., str | None], ...] = (
    reference_that_a_loss_needs,
    reference_that_a_policy_cannot_be,
    reference_before_all_rounds,
    reference_that_moves_for_nothing,
)
