"""Computing in float32 with weights that stay as they are held, so that only weights differ where two models are compared."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn


def computing_in_float32(model: nn.Module) -> nn.Module:
    """Let a loaded model compute in float32 with the weights that it has; return it.

    A weight in half precision is a float32 too, so nothing is rounded, and neither is what a 4-bit layer dequantises to. One
    decoder layer at a time has float32 copies, while it computes: the model takes no more memory than it did, and one layer.
    """
    for module in model.modules():
        if hasattr(module, "compute_dtype"):  # a 4-bit layer
            layer = cast(Any, module)
            layer.compute_dtype = layer.weight.quant_state.dtype = torch.float32  # products; dequantised weights
        for copies in (module._modules.get("modules_to_save") or nn.ModuleDict()).modules():
            copies._forward_hooks.clear()  # they gave outputs of the base's type
            copies._forward_pre_hooks.clear()
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.data = buffer.data.float()
    for unit, whole in _units(model, below=False):
        _widened_while_it_computes(unit, whole=whole)
    return model


def _units(module: nn.Module, *, below: bool) -> Iterator[tuple[nn.Module, bool]]:
    """Yield modules that together have every weight once, and whether those of the modules inside are meant too.

    A decoder layer is taken whole, for some layers read the weights of the modules inside without calling them; so is one with
    an adapter.
    """
    if below or hasattr(module, "base_layer") or module._modules.get("modules_to_save") is not None:
        yield module, True
        return
    yield module, False
    for child in module.children():
        yield from _units(child, below=isinstance(module, nn.ModuleList))


def _widened_while_it_computes(module: nn.Module, *, whole: bool) -> None:
    half = [weight for weight in module.parameters(recurse=whole) if weight.dtype in (torch.bfloat16, torch.float16)]
    if not half:
        return
    held: list[Tensor] = []

    def widen(module: nn.Module, inputs: Any) -> None:
        held.extend(weight.data for weight in half)
        for weight in half:
            weight.data = weight.data.float()

    def put_back(module: nn.Module, inputs: Any, outputs: Any) -> None:
        for weight, data in zip(half, held, strict=True):
            weight.data = data
        held.clear()

    module.register_forward_pre_hook(widen)
    module.register_forward_hook(put_back, always_call=True)
