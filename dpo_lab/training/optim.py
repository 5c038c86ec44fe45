"""The optimizer, its learning-rate schedule and gradient clipping."""

import math
from collections.abc import Callable, Iterable
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import nn

from dpo_lab.components import Component, component

Share = Annotated[float, Field(ge=0, le=1)]


class Optim(Component):
    """An optimizer with its schedule."""

    lr: float
    clip: float | None

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer of these parameters."""
        raise NotImplementedError

    def factor(self, total_steps: int) -> Callable[[int], float]:
        """Return the function from steps done to the factor on `lr`."""
        raise NotImplementedError


@component
class AdamW(Optim):
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) with warm-up and a schedule."""

    lr: PositiveFloat = 5e-7
    """Peak learning rate."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Decay of the running mean of gradients and of their squares."""
    eps: PositiveFloat = 1e-8
    """Added to the root of the second moment."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled decay per step, times the learning rate."""
    warmup: Share = 0.1
    """Share of all steps over which the rate rises linearly from near 0."""
    schedule: Literal["cosine", "linear", "constant", "flat_then_linear"] = "cosine"
    """Course after the warm-up; `flat_then_linear` stays at the peak for the first half."""
    final: Share = 0.1
    """Share of the peak rate that the last step ends at."""
    clip: PositiveFloat | None = 1.0
    """Largest norm of the gradient of a step; null turns clipping off."""

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's AdamW, fused."""
        return torch.optim.AdamW(
            parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay, fused=True
        )

    def factor(self, total_steps: int) -> Callable[[int], float]:
        """Return the factor on `lr` of step 0, 1, ...: never 0, so that no step is lost.

        >>> factor = AdamW(lr=1.0, warmup=0.5, schedule="linear", final=0.0).factor(4)
        >>> [round(factor(step), 2) for step in range(4)]
        [0.5, 1.0, 1.0, 0.5]
        """
        warm = self.warmup * total_steps

        def of(step: int) -> float:
            if step < warm:
                return min(1.0, (step + 1) / warm)
            done = (step - warm) / max(1.0, total_steps - warm)  # 0 right after the warm-up, below 1 at the last step
            remaining = {
                "cosine": 0.5 * (1 + math.cos(math.pi * done)),
                "linear": 1 - done,
                "constant": 1.0,
                "flat_then_linear": min(1.0, 2 * (1 - step / total_steps)),
            }[self.schedule]
            return self.final + (1 - self.final) * remaining

        return of
