"""How far the log-probability of a response may move with the batch that it is scored in."""

import torch
from torch import Tensor, nn

FP32 = 1e-3
"""Nats per response."""
BF16_MIXED, BF16_TRUE = 1.25e-2, 2.5e-2
"""Nats per root of a response's tokens: of bf16 products alone, and of weights in bf16."""
BF16_LEAST = 5e-2
"""Nats per response, however short."""
FP16_FINER = 8
"""Times that fp16 rounds finer than bf16: 11 significant bits in place of 8."""


def beyond(gaps: Tensor, allowed: Tensor) -> tuple[float, float] | None:
    """Return gap and allowance of the response that is furthest beyond its own, None where all are within; NaN is beyond.

    >>> beyond(torch.tensor([0.25, 0.5]), torch.tensor([0.5, 0.125]))
    (0.5, 0.125)
    """
    if bool((gaps <= allowed).all()):
        return None
    worst = int((gaps - allowed).nan_to_num(nan=torch.inf).argmax())
    return float(gaps[worst]), float(allowed[worst])


def rounding(model: nn.Module, counts: Tensor) -> Tensor:
    """Return by how many nats each response may differ between two batches under the same weights, shape of `counts`.

    Other shapes add up in another order; what is then rounded to bf16 falls to the other side now and then, token by token, so
    that the sum wanders with the root of its length. A random Mistral of 57 M weights on a CPU with AMX, the largest of 8 to
    256 responses of 16, 64, 256, 1024 tokens: .03, .04, .07, .14 under autocast, .04, .08, .11, .23 with bf16 weights.

    Args:
        counts: (responses,) tokens of each.
    """
    kind = counts.device.type
    autocast = {torch.get_autocast_dtype(kind)} if torch.is_autocast_enabled(kind) else set()
    held = {weight.dtype for weight in model.parameters()} & {torch.float16, torch.bfloat16}
    if not held | autocast:
        return torch.full(counts.shape, FP32, device=counts.device)
    finer = FP16_FINER if held | autocast == {torch.float16} else 1
    return ((BF16_TRUE if held else BF16_MIXED) * counts.sqrt()).clamp(min=BF16_LEAST) / finer
