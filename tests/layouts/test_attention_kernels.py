"""Attention of a row in one call is that of one call per response; FlashAttention's part is computed densely here."""

import pytest
import torch
from torch import Tensor, nn

from dpo_lab.layouts import attention_kernels
from dpo_lab.layouts.attention import segment_attention
from dpo_lab.layouts.segments import Segments

SEGMENTS = Segments(((5, (3, 4, 1)), (1, (2,)), (140, (6, 9))))
TIME = sum(prompt + sum(responses) for prompt, responses in SEGMENTS.groups)


def heads(dtype: torch.dtype, key_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, TIME, 16, generator=generator) for heads in (4, key_heads, key_heads))
    return query.to(dtype), key.to(dtype), value.to(dtype)


def dense_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_ends: Tensor,
    key_ends: Tensor,
    longest_query: int,
    longest_key: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Tensor:
    """FlashAttention's definition: query i of n sees the keys up to number i + (keys - n)."""
    assert window_size == (-1, 0)
    sizes: list[list[int]] = [(ends[1:] - ends[:-1]).tolist() for ends in (query_ends, key_ends)]
    assert [longest_query, longest_key] == [max(each) for each in sizes]
    assert [len(query), len(key)] == [int(query_ends[-1]), int(key_ends[-1])]
    seen = []
    for one, keys, values in zip(query.split(sizes[0]), key.split(sizes[1]), value.split(sizes[1]), strict=True):
        mask = torch.ones(len(one), len(keys), dtype=torch.bool).tril(len(keys) - len(one))
        asked, before, after = (each.transpose(0, 1)[None] for each in (one, keys, values))
        made = nn.functional.scaled_dot_product_attention(
            asked, before, after, attn_mask=mask, scale=scale, enable_gqa=enable_gqa
        )
        seen.append(made[0].transpose(0, 1))
    return torch.cat(seen)


@pytest.mark.parametrize("key_heads", [4, 2])
def test_flex_attention_sees_what_one_call_per_response_sees(key_heads: int) -> None:
    parts = heads(torch.float32, key_heads)
    ours, _ = attention_kernels.flex_segments(nn.Module(), *parts, None, SEGMENTS, scaling=0.3)
    theirs, _ = segment_attention(nn.Module(), *parts, None, SEGMENTS, scaling=0.3)
    assert ours.shape == (1, TIME, 4, 16)
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("key_heads", [4, 2])
def test_flash_attention_is_asked_for_what_one_call_per_response_sees(key_heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", dense_varlen)
    parts = heads(torch.bfloat16, key_heads)
    ours, _ = attention_kernels.varlen_segments(nn.Module(), *parts, None, SEGMENTS, scaling=0.3)
    theirs, _ = segment_attention(nn.Module(), *parts, None, SEGMENTS, scaling=0.3)
    assert ours.shape == (1, TIME, 4, 16)
    assert torch.allclose(ours.float(), theirs.float(), atol=2e-2)


def test_under_autocast_the_products_are_in_its_format() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert {each.dtype for each in attention_kernels.in_autocast(*heads(torch.float32, 4))} == {torch.bfloat16}
    assert {each.dtype for each in attention_kernels.in_autocast(*heads(torch.float32, 4))} == {torch.float32}
