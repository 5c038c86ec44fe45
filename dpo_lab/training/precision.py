"""Number formats of a run."""

from typing import Literal

import torch

from dpo_lab.components import Component, component


@component
class Precision(Component):
    """Which number format the forward pass computes in; weights, log-probs, loss and optimizer stay fp32."""

    mode: Literal["auto", "fp32", "bf16-mixed"] = "auto"
    """auto: bf16-mixed on a GPU that has it, else fp32."""

    def resolved(self) -> Literal["32-true", "bf16-mixed"]:
        """Return Lightning's name for the format on this machine."""
        on_gpu = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        return "bf16-mixed" if self.mode == "bf16-mixed" or (self.mode == "auto" and on_gpu) else "32-true"
