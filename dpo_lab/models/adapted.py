"""A model with adapters on it: which tensors are trained, which module computes, and reading another adapter for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from dpo_lab.components import ConfigError

TRAINED, REFERENCE = "default", "reference"  # names of adapters on one model; peft calls the first one default


def beside(model: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each trained tensor of a model with the one of its reference adapter, by the trained one's name."""
    tensors = dict(model.named_parameters())
    trained = [name for name, weight in tensors.items() if weight.requires_grad and f".{REFERENCE}" not in name]
    return {name: (tensors[name], tensors[REFERENCE.join(name.rsplit(TRAINED, 1))]) for name in trained}


def full_names(model: Any, names: tuple[str, ...], key: str) -> set[str]:
    """Return the full names of the modules that have some names; ConfigError, with the key they stand at, if one fits none."""
    modules = {name: module for name, module in model.named_modules() if not isinstance(module, nn.ModuleList | nn.ModuleDict)}
    found: set[str] = set()
    for name in names:
        fits = {path for path in modules if f".{path}".endswith(f".{name}")}
        if not fits:
            last = sorted({each.rpartition(".")[2] for each, module in modules.items() if [*module.parameters(recurse=False)]})
            raise ConfigError(f"adapter.{key}={name}: the model has no such module. It has {', '.join(last)}.")
        found |= fits
    return found


def refuse_quantised(model: nn.Module, names: set[str]) -> None:
    """Raise ConfigError if weights that would be trained are quantised."""
    for name in sorted(names):
        if not all(weight.dtype.is_floating_point for weight in model.get_submodule(name).parameters()):
            raise ConfigError(
                f"adapter.modules_to_save={name.rpartition('.')[2]}: its weights are quantised and have no gradient. "
                "Leave it to the adapter (adapter.target_modules), or use quant=none."
            )


def refuse_unadaptable(model: Any, names: set[str]) -> None:
    """Raise ConfigError if a layer that is adapted computes otherwise than a linear layer, as routers do that give two results.

    Args:
        model: with the adapter on it.
        names: full names of the adapted layers in the base.
    """
    base = model.get_base_model()
    kinds: dict[type, str] = {}
    for name in sorted(names):
        layer = base.get_submodule(name)
        inner = layer.get_base_layer()
        if isinstance(inner, nn.Linear) and not computes_as_linear(inner):
            kinds.setdefault(type(inner), name)
    if kinds:
        what = ", ".join(f"{kind.__name__} ({name})" for kind, name in kinds.items())
        parts = {name.rpartition(".")[2] for name in names if type(base.get_submodule(name).get_base_layer()) not in kinds}
        raise ConfigError(
            f"adapter=lora cannot adapt {what}: the layer does not compute as a linear layer does. "
            f"Use 'adapter.target_modules=[{','.join(sorted(parts))}]', or adapter=none."
        )


def computes_as_linear(layer: nn.Linear) -> bool:
    """Return whether a layer gives one tensor of its width; one with its own forward pass is tried on zeros."""
    if type(layer).forward is nn.Linear.forward or any(
        kind.__module__.startswith("bitsandbytes") for kind in type(layer).__mro__
    ):
        return True
    zeros = torch.zeros(1, layer.in_features, dtype=layer.weight.dtype, device=layer.weight.device)
    try:
        with torch.no_grad():
            result = layer(zeros)
    except (AttributeError, TypeError, ValueError, RuntimeError, IndexError):
        return False
    return isinstance(result, Tensor) and result.shape == (1, layer.out_features)


def and_tied(model: Any, names: set[str]) -> set[str]:
    """Return full names of modules with, if input embeddings or head is one of them and they share one weight, the other."""
    tied = tied_names(model)
    return names | tied if names & tied else names


def tied_names(model: Any) -> set[str]:
    """Return the full names of input embeddings and head if they share one weight, else nothing."""
    ends: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    first, last = (getattr(end, "original_module", end) for end in ends)
    if first is None or last is None or first.weight is not last.weight:
        return set()
    return {name.removesuffix(".original_module") for name, module in model.named_modules() if module is first or module is last}


def saved_beside(model: Any) -> set[str]:
    """Return the full names of the modules that are trained in full beside a model's adapter."""
    modules = model.get_base_model().named_modules()
    return {name for name, module in modules if TRAINED in getattr(module, "_modules", {}).get("modules_to_save", ())}


def adapted_layers(model: Any) -> set[str]:
    """Return the full names of the layers that a model's LoRA adapter is on."""
    modules = model.get_base_model().named_modules()
    return {
        name for name, module in modules if TRAINED in {*getattr(module, "lora_A", ()), *getattr(module, "lora_embedding_A", ())}
    }


def in_float32(model: nn.Module, name: str) -> None:
    """Let an adapter's copies of whole modules have float32 weights, as its matrices have, whatever the base's are.

    Half precision does not hold small steps. Outputs stay of the base's type, so that a copy begins as its original.
    """
    for module in model.modules():
        copies: Any = module._modules.get("modules_to_save")
        if copies is None or name not in copies:
            continue
        for inner, original in zip(copies[name].modules(), cast(nn.Module, module.original_module).modules(), strict=True):
            weight = next(original.parameters(recurse=False), None)
            if weight is None or weight.dtype not in (torch.float16, torch.bfloat16):
                continue
            inner.float()
            inner.register_forward_hook(partial(_outputs_of, weight.dtype))
            if isinstance(inner, nn.Linear):
                inner.register_forward_pre_hook(_inputs_of_its_type)


def _outputs_of(dtype: torch.dtype, module: nn.Module, inputs: Any, outputs: Tensor) -> Tensor:
    return outputs.to(dtype)


def _inputs_of_its_type(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].to(cast(Tensor, module.weight).dtype),)


def held_in(model: nn.Module, dtype: torch.dtype) -> None:
    """Let every weight of a model, its adapters' too, have a number format; quantised ones stay, and so do buffers.

    `model.to(dtype)` would convert the buffers as well: rotary frequencies in bf16 shift the positions of long rows.
    """
    for weight in model.parameters():
        if weight.dtype.is_floating_point:
            weight.data = weight.data.to(dtype)


def in_use(module: Any) -> Any:
    """Return what computes in place of a module: the copy that the adapter in use has of it, or the module itself."""
    copies: Any = module._modules.get("modules_to_save")
    if copies is None:
        return module
    (name,) = module.active_adapters
    return module.original_module if module.disable_adapters or name not in copies else copies[name]


class AdapterSwitch:
    """Lets a model read another of its adapters, or none, for a block.

    peft's public switches (`disable_adapter()`, `set_adapter`) look at every module and set `requires_grad` of the adapters, on
    the way in and out: 36 ms a call on 224 layers, and the frozen reference comes out trainable
    (https://github.com/huggingface/peft/issues/3447). Here the layers are found once and two private fields of each are set,
    `_disable_adapters` and `_active_adapter`, tried with peft 0.19 to 0.21. A public switch that leaves the weights alone would
    replace this.
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
