"""The attention of rows of segments as one call on a GPU: FlexAttention, or FlashAttention over sequences of several lengths."""

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
    query, key, value = (nn.functional.pad(each, (0, 0, 0, missing)) for each in (query, key, value))
    mask = segments.kept("flex", query.device, lambda: block_mask(segments, time + missing, query.device))
    shared = query.shape[1] != key.shape[1]
    seen: Any = compiled_flex(query.device.type)(query, key, value, block_mask=mask, scale=scaling, enable_gqa=shared)
    return seen[:, :, :time].transpose(1, 2).contiguous(), None


def block_mask(segments: Segments, time: int, device: torch.device) -> Any:
    """Return who sees whom of a row in FlexAttention's form; what fills the row up sees only itself."""
    from torch.nn.attention.flex_attention import create_block_mask

    group, part = (torch.tensor(each, device=device) for each in owners(segments, time))

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
    """Return FlexAttention, compiled where that gives a kernel; on a CPU it has no backward and serves tests."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True) if kind == "cuda" else flex_attention


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

    def made() -> tuple[Tensor, Tensor, Tensor, int, int]:
        return sequences(segments, query.device)

    seen_keys, query_ends, key_ends, longest_query, longest_key = segments.kept("varlen", query.device, made)
    asked, keys, values = (each[0].transpose(0, 1) for each in (query, key, value))  # (time, heads, size)
    seen: Any = varlen_attn(
        asked,
        keys[seen_keys],
        values[seen_keys],
        query_ends,
        key_ends,
        longest_query,
        longest_key,
        scale=scaling,
        window_size=(-1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return seen.unsqueeze(0), None


def sequences(segments: Segments, device: torch.device) -> tuple[Tensor, Tensor, Tensor, int, int]:
    """Return which keys of the row each sequence sees, one after the other, and where its queries and its keys end.

    Queries keep their order in the row. Ends begin with 0: shape (sequences + 1,), int32.
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
    ends = (torch.tensor([0, *accumulate(sizes)], dtype=torch.int32, device=device) for sizes in (asked, seen))
    return torch.tensor(keys, device=device), *ends, max(asked), max(seen)  # type: ignore[return-value]


def in_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors in the format that autocast gives a matrix product; it does not know these calls."""
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(kind)) for tensor in tensors)


for name, function in ((FLEX, flex_segments), (VARLEN, varlen_segments)):
    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
