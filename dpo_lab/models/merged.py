"""A policy as plain weights: its adapter merged into the dequantised base, one layer at a time. A home of peft."""

import copy
import re
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from dpo_lab.components import ConfigError, RunError
from dpo_lab.models.adapted import TRAINED
from dpo_lab.models.adapter import quiet_peft

NOT_MERGED = ("trainable_tokens_", "parametrizations.")  # parts of state dicts that plain weights cannot have


def in_float32(policy: nn.Module) -> nn.Module:
    """Let a loaded policy compute in float32 with the weights that it has; quantised ones stay as they are.

    A weight in half precision is a float32 too, so nothing is rounded, and neither is what a 4-bit layer dequantises to.
    """
    for module in policy.modules():
        if hasattr(module, "compute_dtype"):  # a 4-bit layer
            layer = cast(Any, module)
            layer.compute_dtype = layer.weight.quant_state.dtype = torch.float32  # products; dequantised weights
        for copies in (module._modules.get("modules_to_save") or nn.ModuleDict()).modules():
            copies._forward_hooks.clear()  # they gave outputs of the base's type
            copies._forward_pre_hooks.clear()
    return policy.float()


def refuse_unmergeable(policy: Any) -> None:
    """Raise ConfigError if a policy's adapter is of a kind that is no change of weights."""
    for name, config in getattr(policy, "peft_config", {}).items():
        kind = config.peft_type.value
        if kind != "LORA" or config.trainable_token_indices:
            what = f"of the kind {kind}" if kind != "LORA" else "that trains single tokens"
            raise ConfigError(f"the policy has an adapter ({name}) {what}; LoRA, rsLoRA and DoRA can be merged here.")


def plain_weights(policy: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield name and float32 value of every weight of the plain model that a policy is; the policy stays as it is.

    An adapted layer is merged by peft's own arithmetic (W + scale B A; DoRA: m (W + scale B A) / |W + scale B A|) into the
    dequantised weights. Merging into packed 4-bit weights would quantise the sum again: 0.70 nats a sequence.
    """
    quiet_peft()
    model = policy.get_base_model() if hasattr(policy, "get_base_model") else policy
    yield from _tensors(model, "")


def _tensors(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if hasattr(module, "merge") and hasattr(module, "base_layer"):
        yield from ((f"{prefix}{name}", tensor) for name, tensor in _merged(module).items())
        return
    copies = module._modules.get("modules_to_save")
    if copies is not None:
        yield from _tensors(dict(copies.items()).get(TRAINED, module.original_module), prefix)
        return
    if _is_quantised(module):
        module = _dequantised(module)
    for name, tensor in (*module._parameters.items(), *module._buffers.items()):
        if tensor is not None and name not in module._non_persistent_buffers_set:
            yield f"{prefix}{name}", tensor.detach()
    for name, child in module._modules.items():
        yield from _tensors(child, f"{prefix}{name}.") if child is not None else ()


def _merged(layer: Any) -> dict[str, Tensor]:
    """Return the weights of an adapted layer with its adapter in them."""
    from peft.tuners.lora import Linear

    base, kind = layer.base_layer, type(layer)
    quantised = _is_quantised(base)
    turned = quantised and getattr(base, "source_cls", nn.Linear).__name__ == "Conv1D"
    try:
        layer.base_layer = _dequantised(base, as_linear=True) if quantised else copy.deepcopy(base)
        if quantised:
            layer.__class__ = Linear  # the classes for packed weights would pack the sum
        layer.merge(adapter_names=[TRAINED])
        tensors = dict(_tensors(layer.base_layer, ""))
    finally:
        layer.base_layer, layer.__class__ = base, kind
        layer.merged_adapters.clear()
    return {name: tensor.T if turned and name == "weight" else tensor for name, tensor in tensors.items()}


def _is_quantised(module: nn.Module) -> bool:
    return type(module._parameters.get("weight")).__name__ in ("Params4bit", "Int8Params")


def _dequantised(layer: Any, *, as_linear: bool = False) -> nn.Linear:
    """Return a quantised layer as a plain one of float32 weights.

    Args:
        as_linear: leave the weights as (outputs, inputs) where the model's own layer has them the other way round (GPT-2).
    """
    from peft.utils.integrations import dequantize_module_weight

    weight = dequantize_module_weight(layer).detach().float()
    if getattr(layer, "source_cls", nn.Linear).__name__ == "Conv1D" and not as_linear:
        weight = weight.T
    plain = nn.Linear(1, 1, bias=False, device="meta")
    plain.weight = nn.Parameter(weight, requires_grad=False)
    plain.in_features, plain.out_features = layer.in_features, layer.out_features
    if layer.bias is not None:
        plain.bias = nn.Parameter(layer.bias.detach().float(), requires_grad=False)
    return plain


def still_tied(policy: Any) -> dict[str, str]:
    """Return, of the weights that a model ties (name: the one it equals), those that are still equal in the plain weights."""
    model = policy.get_base_model() if hasattr(policy, "get_base_model") else policy

    def value(name: str) -> Tensor:
        parent, _, last = name.rpartition(".")
        return dict(_tensors(model.get_submodule(parent), ""))[last]

    tied = {name: other for name, other in model.all_tied_weights_keys.items() if name != other}
    return {name: other for name, other in tied.items() if torch.equal(value(name), value(other))}


def files_groups(policy: Any, dtype: torch.dtype) -> Iterator[dict[str, Tensor]]:
    """Yield the plain weights under the names of Hugging Face files, in `dtype`, on the CPU, one decoder layer at a time.

    A model whose files have other tensors than its modules (experts that are stacked in memory) gets those of the files:
    the library's own conversion is turned round for each group.

    Raises:
        RunError: if a weight is not in floating point, which is to say packed.
    """
    from transformers.core_model_loading import revert_weight_conversion

    model = policy.get_base_model() if hasattr(policy, "get_base_model") else policy
    left_out = still_tied(policy)
    group: dict[str, Tensor] = {}
    current = ""
    for name, tensor in plain_weights(policy):
        if name in left_out:
            continue
        if not tensor.is_floating_point() or any(part in name for part in NOT_MERGED):
            raise RunError(f"{name} is {tensor.dtype}: these weights are packed in a way that is not undone here.")
        layer = (re.match(r"(.*?\.\d+)\.", name) or ["", name])[1]
        if layer != current and group:
            yield revert_weight_conversion(model, group)
            group = {}
        current = layer
        group[name] = tensor.to("cpu", dtype).contiguous()
    if group:
        yield revert_weight_conversion(model, group)
