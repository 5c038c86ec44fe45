"""Facts about the prompts and their split."""

import pytest

from dpo_lab.world.grammar import titles
from dpo_lab.world.parser import asked_title
from dpo_lab.world.prompts import held_out_prompts, train_prompts, train_prompts_for


def test_each_film_has_six_different_prompts() -> None:
    # 971 * 6 = 5826 and 53 * 6 = 318
    train, held_out = train_prompts(), held_out_prompts()
    assert (len(train), len(held_out)) == (5826, 318)
    assert len({*train, *held_out}) == 5826 + 318


def test_prompts_ask_about_the_films_of_their_split() -> None:
    assert {asked_title(prompt) for prompt in train_prompts()} == set(titles(held_out=False))
    assert {asked_title(prompt) for prompt in held_out_prompts()} == set(titles(held_out=True))


def test_consecutive_slices_are_disjoint_and_together_are_all_training_prompts() -> None:
    slices = [train_prompts_for(3, start, 971) for start in range(0, 5826, 971)]
    prompts = [prompt for each in slices for prompt in each]
    assert len(prompts) == 5826
    assert set(prompts) == set(train_prompts())


def test_a_slice_depends_on_its_positions_alone() -> None:
    assert train_prompts_for(0, 0, 20)[10:] == train_prompts_for(0, 10, 10)


def test_another_seed_gives_another_order() -> None:
    assert train_prompts_for(0, 0, 20) != train_prompts_for(1, 0, 20)


def test_the_last_prompt_exists_and_the_next_does_not() -> None:
    assert len(train_prompts_for(0, 5825, 1)) == 1
    with pytest.raises(ValueError, match=r"2 training prompts from position 5825 .* has 5826"):
        train_prompts_for(0, 5825, 2)


@pytest.mark.parametrize(("start", "count"), [(-1, 5), (0, -1)])
def test_negative_slices_are_refused(start: int, count: int) -> None:
    with pytest.raises(ValueError, match="positions 0 to 5825"):
        train_prompts_for(0, start, count)
