"""Passes over a store: what is kept of a batch comes back to the bit."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from dpo_lab.layouts.base import ResponseBatch
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.scoring.logps import ResponseLogps
from dpo_lab.scoring.passes import keeping, score_store
from dpo_lab.tokens.store import TokenStore


@pytest.mark.parametrize("squares", [False, True], ids=["log-probabilities", "with squares"])
def test_kept_numbers_come_back_to_the_bit_and_are_not_computed_again(squares: bool, store: TokenStore) -> None:
    texts: dict[tuple[int, ...], str] = {}
    calls: list[int] = []

    def scorer(batch: ResponseBatch) -> ResponseLogps:
        calls.append(len(batch.counts))
        generator = torch.Generator().manual_seed(len(calls))
        per_token, more = (-torch.rand(len(batch.targets), generator=generator, dtype=torch.float32) for _ in range(2))
        return ResponseLogps(per_token, batch.counts, more if squares else None)

    def keep(rows: Sequence[int], make: Callable[[], Any]) -> Any:
        if tuple(rows) not in texts:
            texts[tuple(rows)] = make()
        return texts[tuple(rows)]

    passes = [score_store(keeping(scorer, keep), store, PaddedLayout(), torch.device("cpu")) for _ in range(2)]
    assert sum(calls) == store.num_responses
    calls.clear()
    plain = score_store(scorer, store, PaddedLayout(), torch.device("cpu"))
    for made in passes:
        assert torch.equal(made.per_token, plain.per_token)
        assert torch.equal(made.counts, plain.counts)
        assert (made.log_sum_squares is None) is not squares
        if squares:
            assert made.log_sum_squares is not None
            assert plain.log_sum_squares is not None
            assert torch.equal(made.log_sum_squares, plain.log_sum_squares)
