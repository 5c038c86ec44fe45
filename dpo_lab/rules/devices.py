"""Parts that need a device which the trainer does not use."""

from collections.abc import Callable

from dpo_lab.layouts.base import Layout, lacking
from dpo_lab.training.optim import Optim
from dpo_lab.training.settings import TrainerSettings


def kernel_without_a_gpu(layout: Layout, trainer: TrainerSettings) -> str | None:
    """FlexAttention has no backward on a CPU, and FlashAttention is not there; on a GPU FlexAttention has to be compiled."""
    kernel = layout.attention
    if kernel == "sdpa":
        return None
    if trainer.device().type != "cuda":
        return f"layout.attention={kernel} needs a GPU; use layout.attention=sdpa."
    reason = lacking(kernel)
    return f"layout.attention={kernel}: {reason}; use layout.attention=varlen." if reason else None


def optimizer_without_a_gpu(optim: Optim, trainer: TrainerSettings) -> str | None:
    """A paged optimizer's state moves from a GPU's memory to the host's; on a CPU there is nowhere to move it."""
    if not optim.needs_gpu or trainer.device().type == "cuda":
        return None
    return "optim.paged=true needs a GPU; use optim.paged=false."


RULES: tuple[Callable[..., str | None], ...] = (kernel_without_a_gpu, optimizer_without_a_gpu)
