"""Number formats that do not go together with the learning rate or the model."""

from collections.abc import Callable

from dpo_lab.models.precision import Precision
from dpo_lab.models.spec import ModelSpec
from dpo_lab.training.optim import Optim

SMALLEST_BF16_RATE = 1e-4
"""Learning rate below which most updates of a weight in bf16 are lost."""


def updates_that_bf16_weights_lose(precision: Precision, optim: Optim) -> str | None:
    """A weight in bf16 has 8 bits of mantissa: what changes it by less than its 256th part changes nothing."""
    if precision.mode != "bf16-true" or optim.lr >= SMALLEST_BF16_RATE:
        return None
    return (
        f"precision=bf16_true with optim.lr={optim.lr:g}: bf16 has 8 bits of mantissa, a weight of size w changes only by more "
        "than w/256, and smaller updates are lost (full fine-tuning at 5e-7 changed 0.9 % of the weights, 95.7 % with fp32 "
        f"weights); use precision=bf16, whose weights are fp32, or optim.lr={SMALLEST_BF16_RATE:g} and above."
    )


def parts_that_bf16_weights_contradict(precision: Precision, model: ModelSpec) -> str | None:
    """A format asked for by name is the one that is taken, and DoRA's lengths have to begin as those of the base."""
    if precision.mode != "bf16-true":
        return None
    if model.pretrained and model.pretrained.dtype == "fp32":
        return "precision=bf16_true with model.dtype=fp32: weights cannot be both; use model.dtype=auto, or precision=bf16."
    if model.adapter.dora:
        return (
            "precision=bf16_true with adapter.dora=true: lengths rounded to bf16 begin up to 0.4 % away from the base's; "
            "use precision=bf16, or adapter=lora."
        )
    return None


RULES: tuple[Callable[..., str | None], ...] = (updates_that_bf16_weights_lose, parts_that_bf16_weights_contradict)
