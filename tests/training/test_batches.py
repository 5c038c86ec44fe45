"""Batches: every pair once per epoch; order and split functions of seed, epoch and lengths."""

from collections import Counter

import numpy as np
import pytest

from dpo_lab.layouts.base import Layout
from dpo_lab.layouts.packed import PackedLayout
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.tokens.store import StoreBuilder, TokenStore
from dpo_lab.training.batches import item_batches, micro_batches, steps_of_epoch

LAYOUTS = (PaddedLayout(), PackedLayout(), PrefixLayout())


@pytest.mark.parametrize("order", ["shuffled", "by_prompt", "as_given"])
def test_every_pair_stands_in_one_step_of_an_epoch(store: TokenStore, order: str) -> None:
    steps = steps_of_epoch(store, 5, order, seed=0, epoch=0)  # type: ignore[arg-type]
    assert sorted(pair for step in steps for pair in step) == list(range(12))
    assert max(map(len, steps)) <= 5


def test_the_order_follows_from_seed_and_epoch(store: TokenStore) -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        return steps_of_epoch(store, 5, "shuffled", seed, epoch)

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_as_given_is_the_order_of_the_store(store: TokenStore) -> None:
    assert steps_of_epoch(store, 5, "as_given", seed=7, epoch=3) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]


def test_by_prompt_no_prompt_is_in_two_steps(store: TokenStore) -> None:
    # three pairs to each of four prompts: two prompts fit a step of 7, not two and a third
    steps = steps_of_epoch(store, 7, "by_prompt", seed=0, epoch=0)
    prompts = [{int(store.response_prompt[store.pairs[pair, 0]]) for pair in step} for step in steps]
    assert [len(step) for step in steps] == [6, 6]
    assert set.isdisjoint(*prompts)


def test_by_prompt_more_pairs_than_a_batch_are_several_steps(store: TokenStore) -> None:
    assert [len(step) for step in steps_of_epoch(store, 2, "by_prompt", seed=0, epoch=0)] == [2, 1] * 4


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("budget", [1, 40, 90, 10**6])
def test_micro_batches_hold_a_steps_pairs_once_within_the_budget(store: TokenStore, layout: Layout, budget: int) -> None:
    made = micro_batches(range(12), store, layout, budget)
    assert sorted(pair for each in made for pair in each) == list(range(12))
    for each in made:
        tokens = layout.items(store, each).rows.inputs["input_ids"].numel()
        assert tokens <= budget or len(each) == 1  # a longer pair has its own pass
    if budget == 1:
        assert len(made) == 12
    if budget == 10**6:
        assert len(made) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_tokens_that_a_layout_counts_are_those_that_it_makes(store: TokenStore, layout: Layout) -> None:
    for responses in ([0], [1, 2, 0], [11, 3, 5, 4], range(store.num_responses)):
        made = layout.rows(store, list(responses))
        assert layout.num_tokens(store, list(responses)) == made.inputs["input_ids"].numel()


def test_total_steps_are_those_of_every_epoch(store: TokenStore) -> None:
    batches = item_batches(store, PrefixLayout(), batch_size=7, token_budget=60, epochs=3, seed=0)
    assert batches.total_steps == 6
    seen = Counter[int]()
    for epoch in range(3):
        batches.sampler.set_epoch(epoch)
        for step in batches.train_dataloader():
            assert 1 <= sum(len(each) for each in step) <= 7
            seen.update(pair for each in step for pair in each.ids.tolist())
    assert set(seen.values()) == {3}


def test_a_checkpoint_after_an_epochs_last_step_goes_on_with_the_next_epoch(store: TokenStore) -> None:
    batches = item_batches(store, PrefixLayout(), batch_size=5, token_budget=60, epochs=3, seed=0)
    loader = batches.train_dataloader()
    batches.sampler.set_epoch(1)
    steps = iter(loader)
    states = [(next(steps), loader.state_dict())[1] for _ in range(3)]
    assert states == [{"epoch": 1, "done": 1}, {"epoch": 1, "done": 2}, {"epoch": 2, "done": 0}]
    again = item_batches(store, PrefixLayout(), batch_size=5, token_budget=60, epochs=3, seed=0).train_dataloader()
    batches.sampler.set_epoch(2)
    following = [[each.ids.tolist() for each in step] for step in loader]
    again.load_state_dict(states[-1])
    assert [[each.ids.tolist() for each in step] for step in again] == following


def test_pairs_of_one_prompt_share_a_pass_where_the_budget_lets_them() -> None:
    builder = StoreBuilder()
    for prompt in range(4):
        answers = [builder.add_response([prompt + 5] * 20, [9, 10 + number, 1]) for number in range(4)]
        for one in range(4):
            for other in range(one):
                builder.add_item([answers[one], answers[other]])
    store = builder.build()
    step = np.random.default_rng(0).permutation(store.num_pairs).tolist()
    # a prompt of 20 tokens with four answers of 3 is 32 tokens: two prompts fit 64
    made = micro_batches(step, store, PrefixLayout(), budget=64)
    assert [len(each) for each in made] == [12, 12]
    assert [len({int(store.response_prompt[store.pairs[pair, 0]]) for pair in each}) for each in made] == [2, 2]
