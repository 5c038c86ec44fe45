"""The optimizer, its learning-rate schedule and gradient clipping."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from importlib.util import find_spec
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import nn

from dpo_lab.components import Component, ConfigError, component
from dpo_lab.models.quant import needing_bitsandbytes, without_bitsandbytes

Share = Annotated[float, Field(ge=0, le=1)]
Schedule = Literal["cosine", "linear", "constant", "flat_then_linear"]


@component
class Optim(Component, ABC):
    """An optimizer with its schedule: a warm-up, then a course down to `final`."""

    needs_bitsandbytes: ClassVar[bool] = False
    bytes_per_weight: ClassVar[int] = 8
    """Of its state for weights in float32: two numbers."""
    bytes_at_once: ClassVar[int] = 0
    """Of what it makes for every weight of a tensor while it changes that tensor, on a CPU."""

    lr: PositiveFloat = 5e-7
    """Peak learning rate."""
    warmup: Share = 0.1
    """Share of all steps over which the rate rises linearly to the peak."""
    warmup_from: Literal["step", "zero"] = "step"
    """Step k = 0, 1, ... of a warm-up of w steps has (k + 1) / w of the peak (`step`) or k / w (`zero`, as transformers and
    TRL do: the first step then changes nothing)."""
    schedule: Schedule = "cosine"
    """Course after the warm-up; `flat_then_linear` stays at the peak for the first half."""
    final: Share = 0.1
    """Share of the peak rate that the last step ends at."""
    clip: PositiveFloat | None = 1.0
    """Largest norm of the gradient of a step; null turns clipping off."""

    @property
    def needs_gpu(self) -> bool:
        """Whether it works on a GPU only."""
        return False

    def idle(self) -> Mapping[str, str]:
        """Return the end of a schedule that does not fall, and the beginning of a warm-up that does not happen."""
        end = {"final": "the rate does not fall (optim.schedule=constant)"} if self.schedule == "constant" else {}
        return end if self.warmup else {**end, "warmup_from": "there is no warm-up (optim.warmup=0)"}

    def check(self) -> None:
        """Raise ConfigError without the library of an optimizer that has one."""
        if self.needs_bitsandbytes and not find_spec("bitsandbytes"):
            raise ConfigError(needing_bitsandbytes("optim=adamw_8bit", "No module named 'bitsandbytes'", "optim=adamw"))

    def check_slowly(self) -> None:
        """Raise ConfigError if that library is installed and does not load."""
        if self.needs_bitsandbytes and (reason := without_bitsandbytes()):
            raise ConfigError(needing_bitsandbytes("optim=adamw_8bit", reason, "optim=adamw"))

    def smaller(self) -> "Iterator[tuple[str, Optim]]":
        """Yield how to take less memory: what to type, and the optimizer so changed."""
        yield from ()

    @abstractmethod
    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer of these parameters."""

    def factor(self, total_steps: int) -> Callable[[int], float]:
        """Return the function from steps done (0, 1, ...) to the factor on `lr`.

        >>> factor = AdamW(lr=1.0, warmup=0.5, schedule="linear", final=0.0).factor(4)
        >>> [round(factor(step), 2) for step in range(4)]
        [0.5, 1.0, 1.0, 0.5]

        The first DPO code's "n warm-up steps" give min(1, (k + 1) / (n + 1)), which is a warm-up of n + 1 steps here (n = 4,
        20 steps); transformers' and TRL's begin at 0:

        >>> [round(RMSprop(lr=1.0, warmup=5 / 20).factor(20)(step), 2) for step in range(6)]
        [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
        >>> factor = AdamW(lr=1.0, warmup=4 / 20, warmup_from="zero", schedule="linear", final=0.0).factor(20)
        >>> [factor(step) for step in (0, 1, 4, 5, 19)]
        [0.0, 0.25, 1.0, 0.9375, 0.0625]
        """
        warm = self.warmup * total_steps
        ahead = 1 if self.warmup_from == "step" else 0

        def of(step: int) -> float:
            if step < warm:
                return min(1.0, (step + ahead) / warm)
            done = (step - warm) / max(1.0, total_steps - warm)  # 0 right after the warm-up, below 1 at the last step
            remaining = {
                "cosine": 0.5 * (1 + math.cos(math.pi * done)),
                "linear": 1 - done,
                "constant": 1.0,
                "flat_then_linear": min(1.0, 2 * (1 - step / total_steps)),
            }[self.schedule]
            return self.final + (1 - self.final) * remaining

        return of


@component
class AdamW(Optim):
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) with warm-up and a schedule."""

    betas: tuple[Share, Share] = (0.9, 0.999)
    """Decay of the running mean of gradients and of their squares."""
    eps: PositiveFloat = 1e-8
    """Added to the root of the second moment."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled decay per step, times the learning rate."""

    def smaller(self) -> Iterator[tuple[str, Optim]]:
        """Yield AdamW with a state of 8 bits a number, and with one that may leave the GPU."""
        if not without_bitsandbytes():
            settings = {field.name: getattr(self, field.name) for field in fields(AdamW)}
            yield "optim=adamw_8bit", AdamW8bit(**settings)
            yield "optim=adamw_8bit optim.paged=true", AdamW8bit(**settings, paged=True)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's AdamW, fused."""
        return torch.optim.AdamW(
            parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay, fused=True
        )


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

    def smaller(self) -> Iterator[tuple[str, Optim]]:
        """Yield it with a state that may leave the GPU."""
        if not self.paged:
            yield "optim.paged=true", replace(self, paged=True)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return bitsandbytes' AdamW8bit or PagedAdamW8bit."""
        from bitsandbytes.optim import adamw

        kind = adamw.PagedAdamW8bit if self.paged else adamw.AdamW8bit
        made: torch.optim.Optimizer = kind(parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)
        return made


@component
class RMSprop(Optim):
    """RMSprop (Tieleman and Hinton 2012) as the first DPO code trains: half of AdamW's state, no running mean of gradients.

    The running mean of squares starts at 0, so that a first step at the full rate would be 1 / sqrt(1 - alpha) times too long:

    >>> weight = nn.Parameter(torch.zeros(1))
    >>> weight.grad = torch.ones(1)
    >>> RMSprop(lr=0.01, alpha=0.99).optimizer([weight]).step()
    >>> weight.data  # 10 x lr; the warm-up is there for it
    tensor([-0.1000])
    """

    bytes_per_weight: ClassVar[int] = 4
    bytes_at_once: ClassVar[int] = 4

    alpha: Share = 0.99
    """Decay of the running mean of squared gradients."""
    eps: PositiveFloat = 1e-8
    """Added to the root of that mean."""
    schedule: Schedule = "constant"
    """Course after the warm-up; `flat_then_linear` stays at the peak for the first half."""
    clip: PositiveFloat | None = 10.0
    """Largest norm of the gradient of a step; null turns clipping off."""

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's RMSprop."""
        return torch.optim.RMSprop(parameters, lr=self.lr, alpha=self.alpha, eps=self.eps)
