"""The attention of rows of segments as one call on a GPU: FlexAttention, or FlashAttention over sequences of several lengths."""

import importlib
import inspect
from functools import cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from dpo_lab.layouts.attention import segment_attention
from dpo_lab.layouts.segments import Segments

FLEX, VARLEN = "dpo_lab_segments_flex", "dpo_lab_segments_varlen"
BLOCK = 128  # FlexAttention computes whole blocks of this many queries and keys
VARIANTS = 64
"""How often FlexAttention may be compiled: with and without gradients, in each number format, for one block and for several."""


def flex_segments(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    segments: Segments | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """Return what `segment_attention` does, by one masked call whose empty blocks are left out (torch.nn.attention).

    The row is filled up to whole blocks, so that few lengths are compiled.
    """
    if segments is None or dropout:
        return segment_attention(module, query, key, value, attention_mask, segments, scaling, dropout, **others)
    query, key, value = in_autocast(query, key, value)
    time = query.shape[2]
    missing = -time % BLOCK
    query, key, value = (nn.functional.pad(states, (0, 0, 0, missing)) for states in (query, key, value))
    mask = segments.kept("flex", query.device, lambda: block_mask(segments, time + missing, query.device))
    shared = query.shape[1] != key.shape[1]
    with torch.autocast(query.device.type, enabled=False):  # it is compiled once more for each state of autocast
        seen: Any = compiled_flex(query.device.type)(query, key, value, block_mask=mask, scale=scaling, enable_gqa=shared)
    return seen[:, :, :time].transpose(1, 2).contiguous(), None


def block_mask(segments: Segments, time: int, device: torch.device) -> Any:
    """Return who sees whom of a row in FlexAttention's form; what fills the row up sees only itself."""
    from torch.nn.attention.flex_attention import create_block_mask

    group, part = (torch.tensor(owner, device=device) for owner in owners(segments, time))

    def sees(batch: Tensor, head: Tensor, asking: Tensor, seen: Tensor) -> Tensor:
        same = (part[seen] == 0) | (part[seen] == part[asking])
        return (asking >= seen) & (group[asking] == group[seen]) & same

    return create_block_mask(sees, None, None, time, time, device=str(device), BLOCK_SIZE=BLOCK)


def owners(segments: Segments, time: int) -> tuple[list[int], list[int]]:
    """Return, for each position of a row, its group and its part of it: 0 the prompt, 1 the first response, ...

    >>> owners(Segments(((2, (1, 3)), (1, (1,)))), 9)
    ([0, 0, 0, 0, 0, 0, 1, 1, 2], [0, 0, 1, 2, 2, 2, 0, 1, 0])
    """
    group: list[int] = []
    part: list[int] = []
    for number, (prompt, responses) in enumerate(segments.groups):
        for position, size in enumerate((prompt, *responses)):
            group += [number] * size
            part += [position] * size
    filled = range(len(segments.groups), len(segments.groups) + time - len(group))
    return [*group, *filled], [*part, *(0 for _ in filled)]


@cache
def compiled_flex(kind: str) -> Any:
    """Return FlexAttention, compiled where that gives a kernel; on a CPU it has no backward and serves tests.

    Beyond 8 variants, torch's own limit, calls would silently compute and keep all scores of a row with itself.
    """
    from torch.nn.attention.flex_attention import flex_attention

    if kind != "cuda":
        return flex_attention
    config: Any = importlib.import_module("torch._dynamo.config")
    config.recompile_limit = max(config.recompile_limit, VARIANTS)
    return torch.compile(flex_attention, dynamic=True, fullgraph=True)  # whole: a limit that is hit is an error then


def varlen_segments(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    segments: Segments | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """Return what `segment_attention` does, by one FlashAttention call over sequences of several lengths (torch's varlen).

    Each [prompt | first response] is a sequence; each further response is one of queries whose keys are [prompt | response],
    causal from the last key on. FlashAttention knows half precision only: in float32 the row is computed segment by segment.
    """
    query, key, value = in_autocast(query, key, value)
    if segments is None or dropout or query.dtype not in (torch.float16, torch.bfloat16):
        return segment_attention(module, query, key, value, attention_mask, segments, scaling, dropout, **others)
    from torch.nn.attention.varlen import varlen_attn

    def made() -> tuple[Tensor | None, Tensor, Tensor, int, int]:
        return sequences(segments, query.device)

    seen_keys, *ends = segments.kept("varlen", query.device, made)
    asked, keys, values = (states[0].transpose(0, 1) for states in (query, key, value))  # (time, heads, size)
    if seen_keys is not None:  # not keys[seen_keys], whose backward sorts
        keys, values = (states.index_select(0, seen_keys) for states in (keys, values))
    # torch 2.11 takes fewer heads of keys without being told, 2.12 and later require it; goes with 2.12 as the oldest version
    told = "enable_gqa" in inspect.signature(varlen_attn).parameters
    shared = {"enable_gqa": query.shape[1] != key.shape[1]} if told else {}
    attend: Any = varlen_attn
    seen: Tensor = attend(asked, keys, values, *ends, scale=scaling, window_size=(-1, 0), **shared)
    return seen.unsqueeze(0), None


def sequences(segments: Segments, device: torch.device) -> tuple[Tensor | None, Tensor, Tensor, int, int]:
    """Return which keys of the row each sequence sees, one after the other, where its queries and its keys end, and the longest.

    Queries keep their order in the row. Ends begin with 0: shape (sequences + 1,), int32. None for keys that are those of the
    row as they stand: no prompt has a second response.
    """
    keys: list[int] = []
    asked: list[int] = []
    seen: list[int] = []
    at = 0
    for prompt, (first, *rest) in segments.groups:
        start = at
        keys += range(start, start + prompt + first)
        asked.append(prompt + first)
        seen.append(prompt + first)
        at += prompt + first
        for response in rest:
            keys += [*range(start, start + prompt), *range(at, at + response)]
            asked.append(response)
            seen.append(prompt + response)
            at += response
    query_ends, key_ends = (torch.tensor([0, *accumulate(sizes)], dtype=torch.int32, device=device) for sizes in (asked, seen))
    chosen = torch.tensor(keys, device=device) if len(keys) != at else None
    return chosen, query_ends, key_ends, max(asked), max(seen)


def in_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors in the format that autocast gives a matrix product; it does not know these calls."""
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(kind)) for tensor in tensors)


for name, function in ((FLEX, flex_segments), (VARLEN, varlen_segments)):
    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
