"""Number formats of a run."""

from typing import Literal

import torch

from dpo_lab.components import Component, component


@component
class Precision(Component):
    """Which number format the forward pass computes in; weights, log-probs, loss and optimizer stay fp32."""

    mode: Literal["auto", "fp32", "bf16-mixed"] = "auto"
    """auto: bf16-mixed on a GPU that has it, else fp32."""

    def resolved(self, device: torch.device) -> Literal["32-true", "bf16-mixed"]:
        """Return Lightning's name for the format on a device."""
        fitting = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return "bf16-mixed" if self.mode == "bf16-mixed" or (self.mode == "auto" and fitting) else "32-true"

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return the context in which a model computes as it does in training."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.resolved(device) == "bf16-mixed")
