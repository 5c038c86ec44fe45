"""A linear layer with a LoRA adapter as one autograd function: peft's numbers up to rounding, with fewer passes over the outputs.

peft computes base(x) + lora_B(lora_A(x)) * scaling as four operations, each of which writes [tokens, outputs] once more, and
autograd adds the two gradients of x afterwards. Here the low-rank part is accumulated by the matrix products themselves.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from peft.tuners.lora import Linear
from peft.tuners.lora.variants import DoraLinearVariant
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class LowRankLinear(torch.autograd.Function):
    """W x + bias + scaling * B A x with W and bias frozen, Hu et al. 2021, eq. 3 (arXiv:2106.09685)."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scaling: float
    ) -> Tensor:
        """Return outputs of the shape of `inputs` but for the last dimension.

        Args:
            weight: W, shape (outputs, inputs), of any `requires_grad`: it gets no gradient.
            down: A, shape (rank, inputs).
            up: B, shape (outputs, rank).
        """
        kind = inputs.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else inputs.dtype
        tokens = inputs.reshape(-1, inputs.shape[-1]).to(dtype)
        weight, small_down, small_up = weight.to(dtype), down.to(dtype), up.to(dtype)
        outputs = F.linear(tokens, weight, None if bias is None else bias.to(dtype))
        inner = tokens @ small_down.t()
        outputs.addmm_(inner, small_up.t(), alpha=scaling)
        ctx.save_for_backward(tokens, weight, small_down, small_up, inner)
        ctx.scaling, ctx.inputs = scaling, (inputs.shape, inputs.dtype)
        ctx.adapter_dtype = down.dtype
        shaped: Tensor = torch.ops.aten._unsafe_view(outputs, [*inputs.shape[:-1], weight.shape[0]])
        return shaped  # no view for autograd: a model may add to it in place, as Llama-4's experts do

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of inputs, A and B."""
        tokens, weight, down, up, inner = ctx.saved_tensors
        shape, dtype = ctx.inputs
        by_outputs = by_outputs.reshape(-1, by_outputs.shape[-1])
        by_inputs = None
        with torch.autocast(weight.device.type, enabled=False):  # the types are settled; it would change some products only
            by_inner = by_outputs @ up
            by_up = (by_outputs.t() @ inner).to(ctx.adapter_dtype).mul_(ctx.scaling)
            by_down = (by_inner.t() @ tokens).to(ctx.adapter_dtype).mul_(ctx.scaling)
            if ctx.needs_input_grad[0]:
                by_inputs = (by_outputs @ weight).addmm_(by_inner, down, alpha=ctx.scaling).view(shape).to(dtype)
        return by_inputs, None, None, by_down, by_up, None


class FusedLinear(Linear):
    """peft's layer over a plain linear one; whatever is not LoRA or DoRA without dropout goes peft's own way.

    Forward hooks on the layers inside (`base_layer`, `lora_A`, `lora_B`) do not fire; those on the layer itself do.
    """

    @classmethod
    def put_into(cls, model: nn.Module) -> nn.Module:
        """Return the model with its layers of this kind in place of peft's; quantised layers and others stay as they are.

        The class of the layers is exchanged, not their `forward`: a copy of the model keeps it, and saving does not see it.
        """
        for layer in model.modules():
            if type(layer) is Linear and type(layer.base_layer) is nn.Linear:
                layer.__class__ = cls
        return model

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the outputs, of the shape of x but for the last dimension."""
        name = self._only_adapter(x)
        if name is None or args or kwargs:
            return super().forward(x, *args, **kwargs)
        base, down, up = self.base_layer, self.lora_A[name].weight, self.lora_B[name].weight
        apply = cast(Callable[..., Tensor], LowRankLinear.apply)
        outputs = apply(x, base.weight, base.bias, down, up, self.scaling[name])
        return self._with_trained_lengths(outputs, name) if name in self.lora_variant else outputs

    def _with_trained_lengths(self, outputs: Tensor, name: str) -> Tensor:
        """Return DoRA's outputs, Liu et al. 2024, eq. 5 (arXiv:2402.09353), from those of plain LoRA.

        The lengths are taken in the weights' own type under autocast too. peft takes B A from a product with an identity of
        inputs x inputs, and the base's outputs apart: 1.2 to 1.4 times the CPU-seconds, with 576 or 1536 inputs and 1024 tokens.
        """
        base, magnitude = cast(nn.Linear, self.base_layer), cast(Tensor, self.lora_magnitude_vector[name].weight)
        down, up = cast(Tensor, self.lora_A[name].weight), cast(Tensor, self.lora_B[name].weight)
        with torch.no_grad(), torch.autocast(outputs.device.type, enabled=False):
            lengths = torch.linalg.norm(base.weight + self.scaling[name] * (up @ down), dim=1)
        unbiased = outputs if base.bias is None else outputs - base.bias
        changed: Tensor = outputs + unbiased * (magnitude / lengths - 1)  # nothing, to the bit, where m is the length
        return changed.to(outputs.dtype)

    def _only_adapter(self, x: Tensor) -> str | None:
        """Return the adapter in use if it is one, plain, its base frozen and the types agree, else None."""
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return None
        (name,) = self.active_adapters
        if name not in self.lora_A:
            return None
        plain = (
            type(self.lora_variant.get(name)) in (type(None), DoraLinearVariant)
            and isinstance(self.lora_dropout[name], nn.Identity)
            and self.lora_B[name].bias is None
            and not any(weight.requires_grad for weight in self.base_layer.parameters())
        )
        types = {x.dtype, cast(Tensor, self.base_layer.weight).dtype, cast(Tensor, self.lora_A[name].weight).dtype}
        return name if plain and (len(types) == 1 or torch.is_autocast_enabled(x.device.type)) else None
