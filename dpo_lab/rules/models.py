"""Models whose weights, adapter and optimizer do not go together."""

from collections.abc import Callable

from dpo_lab.models.precision import Precision
from dpo_lab.models.quant import needing_bitsandbytes, without_bitsandbytes
from dpo_lab.models.spec import ModelSpec
from dpo_lab.training.optim import Optim


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


def quantised_with_broken_bitsandbytes(model: ModelSpec) -> str | None:
    """The library is installed and may still not load; trying takes seconds, so what is cheaper to find comes first."""
    quant = model.quant
    reason = without_bitsandbytes() if quant.needs_bitsandbytes else ""
    return needing_bitsandbytes(f"quant={quant.bits}bit", reason, "quant=none") if reason else None


def optimizer_with_broken_bitsandbytes(optim: Optim) -> str | None:
    """The same of an optimizer's library."""
    reason = without_bitsandbytes() if optim.needs_bitsandbytes else ""
    return needing_bitsandbytes("optim=adamw_8bit", reason, "optim=adamw") if reason else None


RULES: tuple[Callable[..., str | None], ...] = (half_precision_weights_trained_in_full,)
SLOW_RULES: tuple[Callable[..., str | None], ...] = (quantised_with_broken_bitsandbytes, optimizer_with_broken_bitsandbytes)
