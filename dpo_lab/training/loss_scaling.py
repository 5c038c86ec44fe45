"""Loss scaling of products in fp16: small gradients are kept above what fp16 resolves, overflowing steps are skipped."""

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch.optim import Optimizer

from dpo_lab.components import RunError


class LossScaling(MixedPrecision):
    """Autocast to fp16 with a scaled loss (Micikevicius et al. 2018, sections 3.2 and 3.3, arXiv:1710.03740).

    The gradient is divided by the scale before it is clipped. A step whose gradient is not finite changes neither weights nor
    schedule and halves the scale, 2000 finite steps in a row double it (torch.amp.GradScaler). Lightning keeps its state in
    checkpoints, under the name of the class; it takes bf16 in place of fp16 on a CPU when it is told "16-mixed" by name.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__("16-mixed", device.type)
        self.skipped = 0
        """Steps whose gradient was not finite, so far."""
        self.overflowed = False
        """Whether that is so of the step at hand."""

    @property
    def scale(self) -> float:
        """What losses are multiplied by."""
        return self._torch_scaler.get_scale()

    def unscale(self, optimizer: Optimizer) -> None:
        """Divide an optimizer's gradients by the scale, once a step."""
        self._torch_scaler.unscale_(optimizer)

    def optimizer_step(  # type: ignore[override]
        self, optimizer: Optimizer, model: L.LightningModule, closure: Callable[[], Any], **_: Any
    ) -> None:
        """Take the step that `unscale` prepared, or skip it; Lightning counts it in both cases."""
        closure()
        self._after_closure(model, optimizer)  # the hooks before a step
        if not self.overflowed:
            self._torch_scaler.step(optimizer)
        self.skipped += self.overflowed
        self._torch_scaler.update()

    @property
    def _torch_scaler(self) -> torch.amp.GradScaler:
        assert self.scaler is not None  # "16-mixed" has one
        return self.scaler

    def figures(self) -> dict[str, float]:
        """Return the scale and the number of skipped steps, for a row."""
        return {"fp16/loss_scale": self.scale, "fp16/skipped_steps": float(self.skipped)}

    def notes(self, steps: int) -> list[str]:
        """Return how many of a training's steps were skipped, in words, if any was.

        Raises:
            RunError: if all were.
        """
        if self.skipped == steps:
            raise RunError(
                f"fp16: the gradients of all {steps} steps overflowed, down to a loss scale of {self.scale:g}, so nothing was "
                "learned. Use precision=bf16 or precision=fp32."
            )
        if not self.skipped:
            return []
        return [
            f"fp16: {self.skipped} of {steps} steps skipped, their gradients overflowed; loss scale at the end {self.scale:g}"
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the scaler, and the steps skipped."""
        return {**super().state_dict(), "skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state of the processes before."""
        self.skipped = int(state_dict["skipped"])
        super().load_state_dict(state_dict)
