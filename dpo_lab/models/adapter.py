"""Adapters: which weights are trained. With lora_linear.py the only place that imports peft."""

import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import nn

from dpo_lab.components import Component, ConfigError, component

ADAPTER_CONFIG = "adapter_config.json"
TRAINED, REFERENCE = "default", "reference"  # names of adapters on one model; peft calls the first one default


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
            found: Any = model.peft_config[TRAINED]
            here, there = (self.rank, self.alpha, self.dropout), (found.r, found.lora_alpha, found.lora_dropout)
            if here != there or not self._targets(found.target_modules):
                asked, has = ("rank={} alpha={} dropout={}".format(*numbers) for numbers in (here, there))
                raise ConfigError(
                    f"adapter: {asked} on {self.target_modules} is asked for, and the model to start from has an adapter with "
                    f"{has} on {sorted(found.target_modules)}, which is trained on. Use its numbers."
                )
            return model
        model.requires_grad_(False)
        targets = self.target_modules if isinstance(self.target_modules, str) else list(self.target_modules)
        config = LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=targets, task_type="CAUSAL_LM"
        )
        with torch.random.fork_rng():  # peft draws A from torch's global generator
            torch.manual_seed(seed)
            adapted = get_peft_model(model, config)
        return fused(adapted)

    def _targets(self, found: Any) -> bool:
        """Return whether an adapter on some modules is one on these; `all-linear` is written out when it is attached."""
        return self.target_modules == "all-linear" or {*found} == {*self.target_modules}


def load_adapter(base: nn.Module, directory: Path) -> nn.Module:
    """Return the base model with a saved adapter on it, trainable."""
    quiet_peft()
    from peft import PeftModel

    return fused(PeftModel.from_pretrained(base, str(directory), is_trainable=True))


def fused(model: nn.Module) -> nn.Module:
    """Let the model's plain LoRA layers compute in one function each; see lora_linear.py."""
    from dpo_lab.models.lora_linear import FusedLinear

    return FusedLinear.put_into(model)


def save_adapter(model: Any, directory: Path, base_path: str) -> bool:
    """Write a model's adapter in PEFT's format; return False if it has none."""
    if not hasattr(model, "peft_config"):
        return False
    for config in model.peft_config.values():
        config.base_model_name_or_path = base_path  # so that plain peft finds the base again
    model.save_pretrained(str(directory), selected_adapters=[TRAINED])
    return True


def add_reference_adapter(model: nn.Module, directory: Path) -> None:
    """Load a saved adapter beside the one that is trained, frozen and not in use."""
    quiet_peft()
    adapted: Any = model
    adapted.load_adapter(str(directory), adapter_name=REFERENCE, is_trainable=False)


class AdapterSwitch:
    """Lets a model read another of its adapters, or none, for a block.

    peft's own switches look at every module and change which weights are trained: 36 ms a call on 224 layers. Here the layers
    are found once and two fields of each are set (peft 0.19 to 0.21: `_disable_adapters`, `_active_adapter`).
    """

    def __init__(self, model: nn.Module, name: str | None) -> None:
        self.name = name
        self.layers: list[Any] = [module for module in model.modules() if hasattr(module, "_disable_adapters")]
        if not self.layers:
            raise ValueError("the model has no adapter that could be switched off")

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Read the other adapter within the block."""
        before = [(layer._disable_adapters, layer._active_adapter) for layer in self.layers]
        for layer, (_, active) in zip(self.layers, before, strict=True):
            if self.name is None:
                layer._disable_adapters = True
            else:
                layer._active_adapter = self.name if isinstance(active, str) else [self.name]
        try:
            yield
        finally:
            for layer, (disabled, active) in zip(self.layers, before, strict=True):
                layer._disable_adapters, layer._active_adapter = disabled, active


def quiet_peft() -> None:
    """Silence what peft's import and its use of transformers 5 say on every run and nobody can act on."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)  # a kernel package for 4-bit weights
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)  # peft 0.21 reads the old name
