"""Number formats of a run."""

from typing import Literal

import torch

from dpo_lab.components import Component, component

Format = Literal["32-true", "bf16-mixed", "bf16-true"]


@component
class Precision(Component):
    """Which number format weights and forward pass have; log-probabilities and loss are at least fp32 in each."""

    mode: Literal["auto", "fp32", "bf16-mixed", "bf16-true"] = "auto"
    """bf16-mixed: products in bf16, weights and optimizer in fp32. bf16-true: weights and optimizer in bf16 too, which takes
    half the memory and loses small updates. auto: bf16-mixed where the device is faster in it (GPUs from Ampere on, CPUs with
    AMX), else fp32."""

    @property
    def weights(self) -> torch.dtype:
        """The number format that models are loaded, trained and saved in."""
        return torch.bfloat16 if self.mode == "bf16-true" else torch.float32

    def resolved(self, device: torch.device) -> Format:
        """Return the format on a device; the part of the mode that determines the result."""
        if self.mode == "auto":
            return "bf16-mixed" if _faster_in_bf16(device)[0] else "32-true"
        return "32-true" if self.mode == "fp32" else self.mode

    def explained(self, device: torch.device) -> str:
        """Return the format on a device and why it is that one: `precision fp32: this CPU has no AMX, ...`."""
        reason = _faster_in_bf16(device)[1] if self.mode == "auto" else "asked for"
        return f"precision {self.resolved(device).replace('32-true', 'fp32')}: {reason}"

    def lightning(self, device: torch.device) -> Literal["32-true", "bf16-mixed"]:
        """Return what Lightning is told.

        Of bf16-true it hears nothing, because models are loaded in bf16 already: it would also cast what has to stay fp32, the
        reference's log-probabilities and rotary frequencies, and make bf16 the default of new tensors within a step.
        """
        return "bf16-mixed" if self.resolved(device) == "bf16-mixed" else "32-true"

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return the context in which a model computes as it does in training."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.resolved(device) == "bf16-mixed")


def _faster_in_bf16(device: torch.device) -> tuple[bool, str]:
    """Return whether a device gains from bf16 products, and why; docs/benchmarks.md has the measurements on CPUs."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return True, f"{name} computes in it"
        return False, f"{name} does not compute in bf16"
    if has_amx():
        return True, "this CPU has AMX"
    return False, "this CPU has no AMX, without which bf16 is slower"


def has_amx() -> bool:
    """Return whether this processor multiplies bf16 matrices in tiles; False where torch cannot tell."""
    if listed := getattr(torch.cpu, "get_capabilities", None):  # torch 2.13; before, there is the private name alone
        return bool(listed().get("amx_bf16", False))
    asked = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(asked and asked())
