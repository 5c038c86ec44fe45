"""Adapters: which weights are trained. The only place that imports peft."""

import logging
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import nn

from dpo_lab.components import Component, ConfigError, component

ADAPTER_CONFIG = "adapter_config.json"


class Adapter(Component, ABC):
    """Which weights are trained."""

    label: ClassVar[str]
    """Name on the end screen."""

    @abstractmethod
    def attach(self, model: nn.Module, seed: int) -> nn.Module:
        """Return the policy to train, made from a model that has no trainable part yet or an adapter from before.

        Args:
            seed: of what starts random.

        Raises:
            ConfigError: if the model holds an adapter that is not this one.
        """


@component
class NoAdapter(Adapter):
    """Every weight is trained."""

    label: ClassVar[str] = "none"

    def attach(self, model: nn.Module, seed: int) -> nn.Module:
        """Return the model with every weight trainable."""
        if hasattr(model, "peft_config"):
            raise ConfigError("adapter=none: the model to start from has an adapter on it; use adapter=lora to train that on.")
        return model.requires_grad_(True)


@component
class LoRA(Adapter):
    """Low-rank adapters, Hu et al. 2021, eq. 3 (arXiv:2106.09685): W x + (alpha / rank) B A x, B starting at 0."""

    label: ClassVar[str] = "lora"

    rank: PositiveInt = 16
    """Inner dimension of B A."""
    alpha: PositiveInt = 32
    """Scale of the update is alpha / rank; 2 x rank is common."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """On the adapter's input. Above 0, the step-0 loss is still ln 2 (B = 0), later rounds' is not."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Module names, or `all-linear` for every linear layer but the head."""

    def attach(self, model: nn.Module, seed: int) -> nn.Module:
        """Return the model with its base frozen and this adapter on it; an adapter from before is trained on."""
        quiet_peft()
        from peft import LoraConfig, PeftModel, get_peft_model

        if isinstance(model, PeftModel):
            found: Any = model.peft_config["default"]
            if (found.r, found.lora_alpha) != (self.rank, self.alpha):
                raise ConfigError(
                    f"adapter.rank={self.rank} adapter.alpha={self.alpha}: the model to start from has an adapter with "
                    f"rank={found.r} alpha={found.lora_alpha}, which is trained on. Use its numbers."
                )
            return model
        model.requires_grad_(False)
        targets = self.target_modules if isinstance(self.target_modules, str) else list(self.target_modules)
        config = LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=targets, task_type="CAUSAL_LM"
        )
        with torch.random.fork_rng():  # peft draws A from torch's global generator
            torch.manual_seed(seed)
            adapted: nn.Module = get_peft_model(model, config)
        return adapted


def load_adapter(base: nn.Module, directory: Path) -> nn.Module:
    """Return the base model with a saved adapter on it, trainable."""
    quiet_peft()
    from peft import PeftModel

    adapted: nn.Module = PeftModel.from_pretrained(base, str(directory), is_trainable=True)
    return adapted


def save_adapter(model: Any, directory: Path, base_path: str) -> bool:
    """Write a model's adapter in PEFT's format; return False if it has none."""
    if not hasattr(model, "peft_config"):
        return False
    for config in model.peft_config.values():
        config.base_model_name_or_path = base_path  # so that plain peft finds the base again
    model.save_pretrained(str(directory))
    return True


def quiet_peft() -> None:
    """Silence what peft's import and its use of transformers 5 say on every run and nobody can act on."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)  # a kernel package for 4-bit weights
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)  # peft 0.21 reads the old name
