"""A policy as plain weights: its adapter merged into the dequantised base, one layer at a time. A home of peft."""

import copy
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dpo_lab.components import ConfigError, RunError
from dpo_lab.models.adapted import TRAINED
from dpo_lab.models.adapter import quiet_peft

NOT_MERGED = ("trainable_tokens_", "parametrizations.")  # parts of state dicts that plain weights cannot have


def refuse_unmergeable(policy: Any) -> None:
    """Raise ConfigError if a policy's adapter is of a kind that cannot be written as a change of weights."""
    for name, config in getattr(policy, "peft_config", {}).items():
        kind = config.peft_type.value
        if kind != "LORA" or config.trainable_token_indices:
            what = f"of the kind {kind}" if kind != "LORA" else "that trains single tokens"
            raise ConfigError(f"the policy has an adapter ({name}) {what}; LoRA, rsLoRA and DoRA can be merged here.")


def plain_weights(policy: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield name and value of every weight of the plain model that a policy is, and take from the policy each that was asked for.

    What is yielded and what is left of the policy together are never more than the model and one layer.

    An adapted layer is merged by peft's own arithmetic (W + scale B A; DoRA: m (W + scale B A) / |W + scale B A|) in float32,
    into the dequantised weights. Merging into packed 4-bit weights would quantise the sum again: 0.70 nats a sequence.
    """
    quiet_peft()
    model = policy.get_base_model() if hasattr(policy, "get_base_model") else policy
    yield from _tensors(model, "", taken=True)


def _tensors(module: Any, prefix: str, *, taken: bool) -> Iterator[tuple[str, Tensor]]:
    if hasattr(module, "merge") and hasattr(module, "base_layer"):
        merged = _merged(module)
        if taken:
            _give_up(module)
        yield from ((f"{prefix}{name}", merged.pop(name)) for name in [*merged])
        return
    copies = module._modules.get("modules_to_save")
    if copies is not None:
        yield from _tensors(dict(copies.items()).get(TRAINED, module.original_module), prefix, taken=taken)
        if taken:
            _give_up(module)
        return
    plain = _dequantised(module) if _is_quantised(module) else module
    for name, tensor in (*plain._parameters.items(), *plain._buffers.items()):
        if tensor is not None and name not in plain._non_persistent_buffers_set:
            yield f"{prefix}{name}", tensor.detach()
    for name, child in plain._modules.items():
        yield from _tensors(child, f"{prefix}{name}.", taken=taken) if child is not None else ()
    if taken:
        _give_up(module)


def _give_up(module: nn.Module) -> None:
    """Let a module hold no weights any more; one that is tied to another's stays there."""
    for each in module.modules():
        each._parameters.update(dict.fromkeys(each._parameters))


def _merged(layer: Any) -> dict[str, Tensor]:
    """Return the weights of an adapted layer with its adapter in them, in float32; the layer stays as it is but for the type
    of its adapter."""
    from peft.tuners.lora import Linear

    base, kind = layer.base_layer, type(layer)
    quantised = _is_quantised(base)
    turned = quantised and getattr(base, "source_cls", nn.Linear).__name__ == "Conv1D"
    try:
        layer.base_layer = _dequantised(base, as_linear=True) if quantised else copy.deepcopy(base)
        layer.float()
        if quantised:
            layer.__class__ = Linear  # the classes for packed weights would pack the sum
        layer.merge(adapter_names=[TRAINED])
        tensors = dict(_tensors(layer.base_layer, "", taken=False))
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
        return dict(_tensors(model.get_submodule(parent), "", taken=False))[last]

    tied = {name: other for name, other in model.all_tied_weights_keys.items() if name != other}
    return {name: other for name, other in tied.items() if torch.equal(value(name), value(other))}


def files_groups(policy: Any, dtype: torch.dtype) -> Iterator[dict[str, Tensor]]:
    """Yield the plain weights under the names of Hugging Face files, in `dtype`, on the CPU, one decoder layer at a time.

    The policy gives up each layer that was yielded.

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
