"""Attention of a row in one call is that of one call per response; FlashAttention's part is computed densely here."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dpo_lab.layouts import attention_kernels
from dpo_lab.layouts.attention import segment_attention
from dpo_lab.layouts.base import lacking
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.layouts.segments import Segments
from dpo_lab.rules.devices import kernel_without_a_gpu
from dpo_lab.training.settings import TrainerSettings

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
    enable_gqa: bool = False,
) -> Tensor:
    """FlashAttention's definition: query i of n sees the keys up to number i + (keys - n)."""
    assert window_size == (-1, 0)
    assert enable_gqa == (query.shape[1] != key.shape[1])
    sizes: list[list[int]] = [(ends[1:] - ends[:-1]).tolist() for ends in (query_ends, key_ends)]
    assert [longest_query, longest_key] == [max(size) for size in sizes]
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


def varlen_of_2_11(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    """The signature of torch 2.11, which has no `enable_gqa` and shares the heads of keys all the same."""
    ends = (cu_seq_q, cu_seq_k, max_q, max_k)
    shared = query.shape[1] != key.shape[1]
    return dense_varlen(query, key, value, *ends, scale=scale, window_size=window_size, enable_gqa=shared)


def test_flash_attention_of_torch_2_11_is_not_asked_for_what_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_of_2_11)
    parts = heads(torch.bfloat16, 2)
    ours, _ = attention_kernels.varlen_segments(nn.Module(), *parts, None, SEGMENTS, scaling=0.3)
    theirs, _ = segment_attention(nn.Module(), *parts, None, SEGMENTS, scaling=0.3)
    assert torch.allclose(ours.float(), theirs.float(), atol=2e-2)


def test_rows_whose_prompts_have_one_response_each_keep_their_keys_as_they_stand() -> None:
    alone = attention_kernels.sequences(Segments(((2, (1,)), (1, (3,)))), torch.device("cpu"))
    assert alone[0] is None
    assert [each.tolist() for each in alone[1:3]] == [[0, 3, 7], [0, 3, 7]]
    shared = attention_kernels.sequences(Segments(((2, (1, 2)),)), torch.device("cpu"))
    assert shared[0] is not None
    assert shared[0].tolist() == [0, 1, 2, 0, 1, 3, 4]  # [prompt | first], [prompt | second]
    assert [each.tolist() for each in shared[1:3]] == [[0, 3, 5], [0, 3, 7]]


def test_flex_attention_on_a_gpu_never_falls_back_to_scores_of_all_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    config: Any = pytest.importorskip("torch._dynamo.config")
    monkeypatch.setattr(config, "recompile_limit", 8)
    monkeypatch.setattr("torch.compile", lambda function, **options: asked.update(options))
    attention_kernels.compiled_flex.__wrapped__("cuda")
    assert asked == {"dynamic": True, "fullgraph": True}  # beyond the limit, an error: only a whole graph has one
    assert config.recompile_limit == 64  # 4 for each number format and shape of heads, and more where sizes coincide


def test_what_flex_attention_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("dpo_lab.layouts.base.find_spec", lambda name: None)
    assert lacking("flex") == "FlexAttention needs the package triton"
    monkeypatch.setattr("dpo_lab.layouts.base.find_spec", lambda name: name)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "needs a C compiler: install gcc" in lacking("flex")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": "/nowhere"})
    assert "/nowhere has no Python.h" in lacking("flex")
    assert lacking("varlen") == ""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    layout = PrefixLayout(attention="flex")
    assert str(kernel_without_a_gpu(layout, TrainerSettings())).endswith("(python3-dev); use layout.attention=varlen.")


def test_under_autocast_the_products_are_in_its_format() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert {each.dtype for each in attention_kernels.in_autocast(*heads(torch.float32, 4))} == {torch.bfloat16}
    assert {each.dtype for each in attention_kernels.in_autocast(*heads(torch.float32, 4))} == {torch.float32}
