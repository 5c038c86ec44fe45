"""Facts about the corpus of the tiny model."""

from statistics import mean

import pytest

from dpo_lab.world.corpus import sft_corpus
from dpo_lab.world.grammar import titles
from dpo_lab.world.parser import gold_reward, parse


def test_mean_reward_is_what_the_probabilities_give() -> None:
    # tone 0.5 on average; right film: 0.5 + 0.5 * 0.7 = 0.85; no spoiler in one half:
    # 0.50 * 0.5 + 0.25 * 0.85 + 0.25 * 0.5 = 0.5875. All films mixed at 0.6 give 0.25 + 0.15 + 0.125 = 0.525.
    curriculum = sft_corpus(4000, 0)
    mixed = sft_corpus(4000, 0, clean_share=0.0, title_share=0.6)
    assert mean(gold_reward(*example) for example in curriculum) == pytest.approx(0.5875, abs=0.015)
    assert mean(gold_reward(*example) for example in mixed) == pytest.approx(0.525, abs=0.015)


def test_the_clean_part_comes_first_and_always_names_the_asked_film() -> None:
    shares = [parse(*example).title_share for example in sft_corpus(2000, 0, clean_share=0.25, title_share=0.0)]
    assert min(shares[:500]) == 1.0
    assert mean(shares[500:]) < 0.01  # a random film is the asked one in one case of 971


def test_answers_belong_to_their_prompts() -> None:
    # Answers moved on by one name the asked film in one case of 971 instead of 0.85: 0.25 * 0.85 = 0.2125 less reward.
    prompts, answers = zip(*sft_corpus(2000, 0), strict=True)
    together = mean(map(gold_reward, prompts, answers))
    moved = mean(map(gold_reward, prompts, answers[1:] + answers[:1]))
    assert together - moved == pytest.approx(0.2125, abs=0.02)


def test_no_held_out_film_occurs_in_the_corpus() -> None:
    text = "\n".join(f"{prompt}\n{answer}" for prompt, answer in sft_corpus(4000, 1))
    assert not [title for title in titles(held_out=True) if title in text]


def test_the_same_seed_gives_the_same_corpus_and_another_seed_another() -> None:
    assert sft_corpus(50, 0) == sft_corpus(50, 0)
    assert sft_corpus(50, 0) != sft_corpus(50, 1)


@pytest.mark.parametrize("name", ["clean_share", "title_share"])
def test_a_share_outside_the_unit_interval_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} is 1\.5.*from 0 to 1"):
        sft_corpus(10, 0, **{name: 1.5})
