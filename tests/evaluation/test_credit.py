"""Token credit: the shares of a pair's tokens add up to its margin, and the pairs at both ends are taken."""

import math

import torch

from dpo_lab.evaluation.credit import EACH, MAX_TOKENS, token_credit
from dpo_lab.scoring.logps import PairLogps, ResponseLogps
from dpo_lab.tokens.store import StoreBuilder, TokenStore


def store_of(lengths: list[tuple[int, int]]) -> TokenStore:
    builder = StoreBuilder()
    for at, (chosen, rejected) in enumerate(lengths):
        prompt = [1, 2, at + 3]
        builder.add_item([builder.add_response(prompt, [7] * chosen), builder.add_response(prompt, [8] * rejected)])
    return builder.build()


def logps_of(store: TokenStore, per_token: torch.Tensor) -> PairLogps:
    return PairLogps(
        ResponseLogps(per_token, torch.from_numpy(store.response_lengths.copy())), torch.from_numpy(store.pairs.copy())
    )


def test_the_shares_of_a_pairs_tokens_add_up_to_its_margin() -> None:
    lengths = [(3, 2), (1, 4), (2, 2), (5, 1), (2, 3), (3, 3), (1, 1)]
    store = store_of(lengths)
    generator = torch.Generator().manual_seed(0)
    policy, reference = (logps_of(store, -torch.rand(len(store.response_ids), generator=generator)) for _ in range(2))
    found = token_credit(policy, reference, store)
    margins = (policy.margin - reference.margin).tolist()
    assert [each["end"] for each in found] == ["best"] * EACH + ["worst"] * EACH
    assert [each["margin"] for each in found] == sorted(margins, reverse=True)[:EACH] + sorted(margins)[:EACH]
    for each in found:
        shares = [sum(each[side]["ratios"]) + each[side]["rest"] for side in ("chosen", "rejected")]
        assert math.isclose(shares[0] - shares[1], each["margin"], abs_tol=2e-3)
        assert tuple(len(each[side]["ids"]) for side in ("chosen", "rejected")) in lengths


def test_few_pairs_are_taken_once() -> None:
    store = store_of([(1, 1), (2, 1), (1, 2), (2, 2)])
    flat = logps_of(store, torch.arange(len(store.response_ids)) * -0.1)
    none = logps_of(store, torch.zeros(len(store.response_ids)))
    found = token_credit(flat, none, store)
    assert len({tuple(each["prompt"]) for each in found}) == len(found) == 4


def test_of_a_long_response_the_rest_is_a_sum() -> None:
    store = store_of([(MAX_TOKENS + 10, 1)])
    policy = logps_of(store, torch.full((MAX_TOKENS + 11,), -0.5))
    (found,) = token_credit(policy, logps_of(store, torch.full((MAX_TOKENS + 11,), -1.0)), store)
    assert (len(found["chosen"]["ratios"]), found["chosen"]["left_out"], found["chosen"]["rest"]) == (MAX_TOKENS, 10, 5.0)
