"""Rows of segments: what stands where, by hand."""

from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from dpo_lab.layouts.budget import fill
from dpo_lab.layouts.packed import PackedLayout
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.layouts.segments import Segments
from dpo_lab.scoring.fitting import fitted
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import StoreBuilder, TokenStore


def two_prompts() -> TokenStore:
    builder = StoreBuilder()
    for prompt, response in (([1, 2], [7, 8, 9]), ([3], [4]), ([1, 2], [5, 6])):
        builder.add_response(prompt, response)
    return builder.build()


def test_prefix_rows_hold_each_prompt_once_and_restart_positions_after_it() -> None:
    batch = PrefixLayout().rows(two_prompts(), [0, 1, 2])
    # [1 2 | 7 8 9 | 5 6] [3 | 4]
    assert batch.inputs["input_ids"].tolist() == [[1, 2, 7, 8, 9, 5, 6, 3, 4]]
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 2, 3, 4, 2, 3, 0, 1]]
    assert batch.inputs["segments"] == Segments(((2, (3, 2)), (1, (1,))))
    # in the order of the batch: 7 8 9 from positions 1 2 3; 4 from 7; 5 6 from the prompt's last token again and from 5
    assert batch.predictors.tolist() == [1, 2, 3, 7, 1, 5]
    assert batch.targets.tolist() == [7, 8, 9, 4, 5, 6]
    assert batch.counts.tolist() == [3, 1, 2]
    assert batch.responses.tolist() == [0, 1, 2]


def test_packed_rows_hold_a_prompt_for_every_response() -> None:
    batch = PackedLayout().rows(two_prompts(), [0, 1, 2])
    assert batch.inputs["input_ids"].tolist() == [[1, 2, 7, 8, 9, 3, 4, 1, 2, 5, 6]]
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 3]]
    assert batch.inputs["segments"] == Segments(((2, (3,)), (1, (1,)), (2, (2,))))
    assert batch.predictors.tolist() == [1, 2, 3, 5, 8, 9]
    assert batch.targets.tolist() == [7, 8, 9, 4, 5, 6]


def test_a_further_response_sees_its_prompt_and_itself_up_to_each_token() -> None:
    seen = Segments(((2, (1, 3)),)).mask(2, 3, torch.device("cpu"))
    assert seen.int().tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


def test_a_batch_moves_with_what_is_no_tensor() -> None:
    batch = PrefixLayout().items(two_pairs(), [0]).to("cpu", non_blocking=True)
    assert batch.rows.inputs["segments"] == Segments(((2, (3, 2)),))


def two_pairs() -> TokenStore:
    builder = StoreBuilder()
    builder.add_item([builder.add_response([1, 2], [7, 8, 9]), builder.add_response([1, 2], [5, 6])])
    return builder.build()


def test_units_stay_together_unless_they_are_longer_than_the_budget() -> None:
    sizes = {item: item for item in range(10)}

    def total(items: list[int]) -> int:
        return sum(sizes[item] for item in items)

    assert list(fill([[1, 2], [3], [4, 4]], total, 7)) == [[1, 2, 3], [4], [4]]
    assert list(fill([[1, 2], [3, 4]], total, 9)) == [[1, 2], [3, 4]]
    assert list(fill([[9], [9]], total, 5)) == [[9], [9]]
    assert list(fill([], total, 5)) == []


def test_a_row_of_segments_brings_its_mask_so_that_the_library_builds_none_of_tokens_by_tokens(
    model: nn.Module, store: TokenStore
) -> None:
    seen: list[torch.Size] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            seen.extend(
                each.shape for each in (out if isinstance(out, tuple | list) else (out,)) if isinstance(each, torch.Tensor)
            )
            return out

    fitted(model, PrefixLayout(), store)
    batch = PrefixLayout().rows(store, range(store.num_responses))
    tokens = batch.inputs["input_ids"].numel()
    with torch.no_grad(), Watch():  # type: ignore[no-untyped-call]
        score(model, batch)
    assert seen
    assert [shape for shape in seen if shape[-2:] == (tokens, tokens)] == []
