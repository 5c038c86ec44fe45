"""How long and in which portions a run trains."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import PositiveInt

from dpo_lab.components import Component, ConfigError, component

SMALLEST_BUDGET = 256
"""Tokens of a pass below which memory is that of the weights alone."""


@component
class TrainerSettings(Component):
    """How long, in which portions and on which device a run trains."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """auto takes a GPU when there is one."""
    devices: PositiveInt = 1
    """Processes that share the pairs of every step, on one machine: one per GPU, or several on the CPU."""
    epochs: PositiveInt = 1
    """Passes over the pairs of a round."""
    max_steps: PositiveInt | None = None
    """Optimizer steps after which training ends even if the epochs are not over; null: none."""
    max_pairs: PositiveInt | None = None
    """Only the first so many pairs of a round are trained on; null: all."""
    batch_size: PositiveInt = 32
    """Pairs per optimizer step, of all devices together; the loss of a step is the mean over them."""
    token_budget: PositiveInt = 8192
    """Tokens per forward pass (micro-batch) of a device; changes memory and speed, never the result. A longer pair gets a
    separate pass."""
    head_tokens: PositiveInt | None = None
    """Response tokens that the head takes at a time in training: fewer take less memory, and the head multiplies once more.
    The result stays, up to rounding. null: as many as make 2^25 logits, 1048 of a vocabulary of 32,000."""
    log_every: PositiveInt = 1
    """Optimizer steps between two lines of metrics."""

    def check(self) -> None:
        """Raise ConfigError if there is no such device, or not so many of them."""
        if self.accelerator == "gpu" and not torch.cuda.is_available():
            raise ConfigError("accelerator=gpu, and torch sees no GPU here; use trainer=auto or trainer=cpu.")
        count = torch.cuda.device_count()
        if self.device().type == "cuda" and self.devices > max(1, count):  # two processes on one GPU wait for each other
            raise ConfigError(f"devices={self.devices}, and torch sees {count} GPU{'s'[: count > 1]}; use devices={count}.")

    def device(self) -> torch.device:
        """Return the device that models work on."""
        on_gpu = self.accelerator == "gpu" or (self.accelerator == "auto" and torch.cuda.is_available())
        return torch.device("cuda" if on_gpu else "cpu")

    def smaller(self) -> Iterator[tuple[str, "TrainerSettings"]]:
        """Yield how to take less memory, the smallest change first: what to type, and these settings so changed."""
        budget = self.token_budget // 2
        while budget >= SMALLEST_BUDGET:
            yield f"trainer.token_budget={budget}", replace(self, token_budget=budget)
            budget //= 2

    def content(self) -> dict[str, Any]:
        """Return what determines the result: how often figures are logged does not; the device does, by its rounding."""
        unset = [name for name in ("max_pairs", "head_tokens") if getattr(self, name) is None]
        neutral = ("log_every", "accelerator", *unset)
        fields = {name: value for name, value in super().content().items() if name not in neutral}
        return {**fields, "device": self.device().type}
