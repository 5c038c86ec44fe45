"""Number formats of a run."""

from typing import Literal

import torch

from dpo_lab.components import Component, component

Format = Literal["32-true", "bf16-mixed", "fp16-mixed", "bf16-true"]
IN_PRODUCTS = {"bf16-mixed": torch.bfloat16, "fp16-mixed": torch.float16}
"""The number format of matrix products, where weights have another one."""


@component
class Precision(Component):
    """Which number format weights and forward pass have; log-probabilities and loss are at least fp32 in each."""

    mode: Literal["auto", "fp32", "bf16-mixed", "fp16-mixed", "bf16-true"] = "auto"
    """bf16-mixed: products in bf16, weights and optimizer in fp32. bf16-true: weights and optimizer in bf16 too, which takes
    half the memory and loses small updates. fp16-mixed: products in fp16 with loss scaling (Micikevicius et al. 2018, section
    3.2, arXiv:1710.03740), for GPUs without bf16; a step whose gradient overflows is skipped and counted. auto: bf16-mixed where
    the device is faster in it (GPUs from Ampere on, CPUs with AMX), fp16-mixed on other GPUs, else fp32."""

    @property
    def weights(self) -> torch.dtype:
        """The number format that models are loaded, trained and saved in."""
        return torch.bfloat16 if self.mode == "bf16-true" else torch.float32

    def resolved(self, device: torch.device) -> Format:
        """Return the format on a device; the part of the mode that determines the result."""
        if self.mode == "auto":
            return _chosen_for(device)[0]
        return "32-true" if self.mode == "fp32" else self.mode

    def explained(self, device: torch.device) -> str:
        """Return the format on a device and why it is that one: `precision fp32: this CPU has no AMX, ...`."""
        reason = _chosen_for(device)[1] if self.mode == "auto" else "asked for"
        return f"precision {self.resolved(device).replace('32-true', 'fp32')}: {reason}"

    def lightning(self, device: torch.device) -> Literal["32-true", "bf16-mixed"] | None:
        """Return Lightning's `precision`; None where a plugin decides it, as in fp16.

        Of bf16-true it hears nothing, because models are loaded in bf16 already: it would also cast what has to stay fp32, the
        reference's log-probabilities and rotary frequencies, and make bf16 the default of new tensors within a step.
        """
        told: dict[Format, Literal["32-true", "bf16-mixed"] | None] = {"bf16-mixed": "bf16-mixed", "fp16-mixed": None}
        return told.get(self.resolved(device), "32-true")

    def in_products(self, device: torch.device) -> torch.dtype | None:
        """Return the number format of matrix products where it is not that of the weights, else None."""
        return IN_PRODUCTS.get(self.resolved(device))

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return the context in which a model computes as it does in training."""
        half = self.in_products(device)
        return torch.autocast(device.type, half or torch.bfloat16, enabled=half is not None)


def _chosen_for(device: torch.device) -> tuple[Format, str]:
    """Return the format that suits a device, and why; docs/benchmarks.md has the measurements on CPUs."""
    if device.type == "cuda" and not torch.cuda.is_available():
        return "bf16-mixed", "a GPU that is not here is taken to compute in it"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16-mixed", f"{name} computes in it"
        return "fp16-mixed", f"{name} does not compute in bf16"
    if has_amx():
        return "bf16-mixed", "this CPU has AMX"
    return "32-true", "this CPU has no AMX, without which bf16 is slower"


def has_amx() -> bool:
    """Return whether this processor multiplies bf16 matrices in tiles; False where torch cannot tell."""
    if listed := getattr(torch.cpu, "get_capabilities", None):  # torch 2.13; before, there is the private name alone
        return bool(listed().get("amx_bf16", False))
    asked = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(asked and asked())
