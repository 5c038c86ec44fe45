"""Facts about held-out pairs: prompts are never shared, and the choice depends on the seed and the prompts alone."""

import pytest

from dpo_lab.data.problems import DataError
from dpo_lab.data.split import split_by_prompt
from dpo_lab.records import PreferencePair, Prompt


def pairs_of(num_prompts: int, pairs_each: int = 1) -> list[PreferencePair]:
    return [
        PreferencePair(prompt=Prompt.from_text(f"Question {number}?"), chosen=f"yes {each}", rejected="no")
        for each in range(pairs_each)
        for number in range(num_prompts)
    ]


def prompts_in(pairs: list[PreferencePair]) -> set[str]:
    return {pair.prompt.id for pair in pairs}


def test_no_prompt_is_on_both_sides_and_no_pair_is_lost() -> None:
    pairs = pairs_of(20, pairs_each=3)
    train, held_out = split_by_prompt(pairs, 4, seed=0)
    assert prompts_in(train).isdisjoint(prompts_in(held_out))
    assert len(prompts_in(held_out)) == 4
    assert (len(train), len(held_out)) == (48, 12)


def test_rows_keep_their_order() -> None:
    pairs = pairs_of(10, pairs_each=2)
    for part in split_by_prompt(pairs, 3, seed=0):
        assert part == [pair for pair in pairs if pair in part]


def test_the_order_of_rows_does_not_change_who_is_held_out() -> None:
    pairs = pairs_of(30)
    assert prompts_in(split_by_prompt(pairs, 5, seed=1)[1]) == prompts_in(split_by_prompt(pairs[::-1], 5, seed=1)[1])


def test_another_seed_holds_out_other_prompts() -> None:
    choices = {frozenset(prompts_in(split_by_prompt(pairs_of(30), 5, seed)[1])) for seed in range(5)}
    assert len(choices) == 5


@pytest.mark.parametrize(("num_prompts", "held_out"), [(2, 0), (4, 0), (5, 1), (44, 8), (2499, 499), (2500, 500), (3000, 500)])
def test_by_default_a_fifth_of_the_prompts_is_held_out_at_most_500(num_prompts: int, held_out: int) -> None:
    assert len(split_by_prompt(pairs_of(num_prompts), None, seed=0)[1]) == held_out


def test_nothing_is_held_out_on_request() -> None:
    pairs = pairs_of(1)
    assert split_by_prompt(pairs, 0, seed=0) == (pairs, [])


@pytest.mark.parametrize("held_out", [None, 1])
def test_a_single_prompt_cannot_be_split(held_out: int | None) -> None:
    with pytest.raises(DataError, match=r"1 prompt, so none can be held out.*data\.held_out=0"):
        split_by_prompt(pairs_of(1, pairs_each=5), held_out, seed=0)


@pytest.mark.parametrize("held_out", [3, 4, 1000])
def test_something_must_remain_to_train_on(held_out: int) -> None:
    with pytest.raises(DataError, match=r"Use data\.held_out=2 at most"):
        split_by_prompt(pairs_of(3), held_out, seed=0)


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(DataError, match="held_out=-1"):
        split_by_prompt(pairs_of(3), -1, seed=0)
