"""How fast training is, and how much memory it takes."""

import resource
import sys
import time

import lightning as L
import torch
from torch import nn

from dpo_lab.scoring.score import language_model
from dpo_lab.training.module import StepModule
from dpo_lab.training.steps import MoreFigures, Row

MIB = 2**20


class Counter(MoreFigures):
    """Counts items and tokens, and divides them by the time since the row before."""

    def __init__(self) -> None:
        self._items, self._tokens = 0, 0
        self._since = time.monotonic()
        self._flops_per_token = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        assert isinstance(pl_module, StepModule)
        self._since = time.monotonic()
        self._flops_per_token = flops_per_token(pl_module.policy)

    def count(self, module: StepModule) -> None:
        """Add the items and tokens of the newest step, of all processes."""
        items, tokens = module.taken
        self._items, self._tokens = self._items + items, self._tokens + tokens

    def pause(self, seconds: float) -> None:
        """Leave the time out."""
        self._since += seconds

    def figures(self, module: StepModule) -> Row:
        """Return speeds since the row before and the peak of memory so far."""
        now = time.monotonic()
        took, self._since = max(now - self._since, 1e-9), now
        items, tokens, self._items, self._tokens = self._items, self._tokens, 0, 0
        return {
            f"time/{module.item}s_per_second": items / took,
            "time/tokens_per_second": tokens / took,
            "time/tflops_per_second": self._flops_per_token * tokens / took / 1e12,
            "memory/peak_mib": peak_bytes(module.device) / MIB,
        }


def flops_per_token(model: nn.Module) -> int:
    """Return the floating-point operations that training spends on one token in a model's weight matrices.

    A weight costs 2 forward, 2 backward for the gradient of its input, and 2 more for its own gradient if it is trained: 6
    (Kaplan et al. 2020, arXiv:2001.08361, section 2.1), or 4 for a frozen one under LoRA. As there, embeddings and the head are
    left out (the head works at response positions only), and so is attention itself, which grows with the row's length.
    """
    stock = language_model(model)
    head = stock.get_output_embeddings() if hasattr(stock, "get_output_embeddings") else None
    total = 0
    for module in model.modules():
        weight = dict(module.named_parameters(recurse=False)).get("weight")  # its own: adapters show that of the layer below
        if module is head or isinstance(module, nn.Embedding) or weight is None or weight.dim() < 2:
            continue
        # not the shape of a linear layer's weight, which 4-bit layers pack
        size = module.in_features * module.out_features if isinstance(module, nn.Linear) else weight.numel()
        total += (6 if weight.requires_grad else 4) * size
    return total


def peak_bytes(device: torch.device) -> int:
    """Return the most memory so far: what torch had allocated on a GPU, or what the process had resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
