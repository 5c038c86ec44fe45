"""Models whose weights, adapter and optimizer do not go together."""

from collections.abc import Callable

from dpo_lab.models.precision import Precision
from dpo_lab.models.spec import ModelSpec


def half_precision_weights_trained_in_full(model: ModelSpec, precision: Precision) -> str | None:
    """The steps of a learning rate that suits preferences are below what half precision resolves."""
    if not model.pretrained or model.pretrained.dtype != "bf16" or not model.adapter.trains_all:
        return None
    if precision.mode == "bf16-true":
        return None  # asked for in so many words
    return (
        "model.dtype=bf16 with adapter=none would train weights of 8 significant bits, which small steps do not change; "
        "use model.dtype=auto, or adapter=lora."
    )


RULES: tuple[Callable[..., str | None], ...] = (half_precision_weights_trained_in_full,)
