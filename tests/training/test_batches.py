"""Batches: every pair once per epoch, order a function of seed and epoch."""

from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.batches import StepSampler, pair_batches


def test_every_item_stands_in_one_step_of_an_epoch() -> None:
    steps = list(StepSampler(10, 4, seed=0))
    assert [len(step) for step in steps] == [4, 4, 2]
    assert sorted(item for step in steps for item in step) == list(range(10))


def test_the_order_follows_from_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        sampler = StepSampler(50, 8, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_micro_batches_of_a_step_hold_its_pairs_once(store: TokenStore) -> None:
    batches = pair_batches(store, PaddedLayout(), batch_size=7, micro_batch_size=3, epochs=2, seed=0)
    assert batches.total_steps == 4
    for step in batches.sampler:
        made = batches.collate(step)
        assert [len(each) for each in made] == [3, 3, 1][: -(-len(step) // 3)] or len(step) == 5
        assert sorted(pair for each in made for pair in each.ids.tolist()) == sorted(step)
