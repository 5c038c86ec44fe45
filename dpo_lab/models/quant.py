"""Quantisation of the base weights. With training/optim.py the only place that imports bitsandbytes."""

import logging
from importlib.util import find_spec
from typing import Any, ClassVar

import torch
from torch import nn

from dpo_lab.components import Component, ConfigError, component

# bitsandbytes looks for a faster CPU kernel at import and says so on every run; nobody can act on it
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


class Quant(Component):
    """How the base weights are stored."""

    bits: ClassVar[int]
    """Of a weight; 0 where they are as they are."""
    needs_bitsandbytes: ClassVar[bool] = False

    @property
    def bits_in_memory(self) -> float:
        """Bits that a weight takes, its share of the constants of its block included."""
        return float(self.bits)

    def check(self) -> None:
        """Raise ConfigError without the library that keeps and multiplies such weights."""
        if self.needs_bitsandbytes and not find_spec("bitsandbytes"):
            raise ConfigError(needing_bitsandbytes(f"quant={self.bits}bit", "No module named 'bitsandbytes'", "quant=none"))

    def check_slowly(self) -> None:
        """Raise ConfigError if that library is installed and does not load."""
        if self.needs_bitsandbytes and (reason := without_bitsandbytes()):
            raise ConfigError(needing_bitsandbytes(f"quant={self.bits}bit", reason, "quant=none"))

    def config(self, dtype: torch.dtype) -> Any:
        """Return what transformers needs to quantise while it loads, None for weights as they are.

        Args:
            dtype: number format of the products, and of the weights that are not quantised.
        """
        return None

    def made_ready(self, model: nn.Module) -> nn.Module:
        """Return a model that was just loaded, safe to train and to score with."""
        return model


@component
class NoQuant(Quant):
    """Weights as they are."""

    bits: ClassVar[int] = 0


@component
class FourBit(Quant):
    """4-bit NormalFloat weights (QLoRA, Dettmers et al. 2023, section 3, arXiv:2305.14314)."""

    bits: ClassVar[int] = 4
    needs_bitsandbytes: ClassVar[bool] = True

    double: bool = True
    """Whether the quantisation constants are quantised too, 0.37 bits per weight less."""

    @property
    def bits_in_memory(self) -> float:
        """Four, and the constants: one for 64 weights; `double` holds it in 8 bits, and one more for 256 of them (section 3)."""
        return self.bits + (8 / 64 + 32 / (64 * 256) if self.double else 32 / 64)

    def config(self, dtype: torch.dtype) -> Any:
        """Return nf4 with products in `dtype`."""
        from transformers import BitsAndBytesConfig

        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=self.double, bnb_4bit_compute_dtype=dtype
        )

    def made_ready(self, model: nn.Module) -> nn.Module:
        """Return the model with its layers kept from repacking their weights for a CPU kernel that has no backward.

        On CPUs with AVX512-BF16 one forward in eval mode without gradients does so (bitsandbytes 0.50); gradients are then
        about 98 % wrong, and the loss of the first step is still ln 2.
        """
        from bitsandbytes.nn.modules import Linear4bit

        for module in model.modules():
            if isinstance(module, Linear4bit):
                module.support_avx512bf16_for_cpu = False
        return model


@component
class EightBit(Quant):
    """8-bit weights (LLM.int8(), Dettmers et al. 2022, arXiv:2208.07339)."""

    bits: ClassVar[int] = 8
    needs_bitsandbytes: ClassVar[bool] = True

    def config(self, dtype: torch.dtype) -> Any:
        """Return 8-bit weights; products follow the activations."""
        from transformers import BitsAndBytesConfig

        return BitsAndBytesConfig(load_in_8bit=True)

    def made_ready(self, model: nn.Module) -> nn.Module:
        """Return the model with its layers kept in train mode: in eval mode a CPU takes another kernel, 3e-2 nats away."""
        from bitsandbytes.nn.modules import Linear8bitLt

        class InTrainMode(Linear8bitLt):
            def train(self, mode: bool = True) -> "InTrainMode":
                return super().train(True)

        for module in model.modules():
            if type(module) is Linear8bitLt:
                module.__class__ = InTrainMode
        return model


def needing_bitsandbytes(asked: str, reason: str, instead: str) -> str:
    """Return why a setting cannot work where bitsandbytes cannot be imported, and what to use."""
    return (
        f"{asked} needs bitsandbytes, which cannot be imported here ({reason}). "
        f"Install it (pip install bitsandbytes), or use {instead}."
    )


def without_bitsandbytes() -> str:
    """Return why bitsandbytes cannot be imported, an empty text if it can."""
    try:
        import bitsandbytes  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        return str(error)
    return ""
