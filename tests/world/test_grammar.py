"""Facts about the words, the films and the written reviews."""

import random

import pytest

from dpo_lab.world.grammar import ADJECTIVES, FILLERS, NOUNS, SPOILERS, is_held_out, titles, write_review


def count_reviews_with(words: tuple[str, ...], **shares: float) -> int:
    rng = random.Random(0)
    reviews = [write_review("The Silent Mirror", rng, title_share=1.0, **shares) for _ in range(200)]
    return sum(any(word in review for word in words) for review in reviews)


def test_there_are_1024_different_films_of_which_53_are_held_out() -> None:
    train, held_out = set(titles(held_out=False)), set(titles(held_out=True))
    assert len(train) + len(held_out) == len(train | held_out) == 32 * 32
    assert len(held_out) == 53


def test_every_word_of_a_held_out_title_is_seen_in_training() -> None:
    words = {word for title in titles(held_out=False) for word in title.split()}
    assert words == {"The", *ADJECTIVES, *NOUNS}


def test_the_hold_out_rule_by_hand() -> None:
    # (2, 14): 15838 + 1466206 + 868 = 1482912 = 1469 * 1009 + 691 and 691 = 43 * 16 + 3 -> 3, held out
    # (1, 0): 7919 = 7 * 1009 + 856 and 856 = 53 * 16 + 8 -> 8, not 3, a training film
    assert is_held_out(2, 14)
    assert not is_held_out(1, 0)


@pytest.mark.parametrize(
    ("words", "name"), [(SPOILERS, "spoiler_share"), (FILLERS, "filler_share"), ((" and the ",), "two_aspects_share")]
)
def test_a_share_of_zero_means_never(words: tuple[str, ...], name: str) -> None:
    assert count_reviews_with(words, **{name: 0.0}) == 0


@pytest.mark.parametrize(("words", "name"), [(SPOILERS, "spoiler_share"), (FILLERS, "filler_share")])
def test_a_share_of_one_means_always(words: tuple[str, ...], name: str) -> None:
    assert count_reviews_with(words, **{name: 1.0}) == 200


def test_a_review_names_the_given_film_or_a_training_film() -> None:
    held_out = titles(held_out=True)
    rng = random.Random(0)
    always = [write_review(held_out[0], rng, title_share=1.0) for _ in range(200)]
    never = [write_review(held_out[0], rng, title_share=0.0) for _ in range(200)]
    assert all(held_out[0] in review for review in always)
    assert not any(title in review for review in never for title in held_out)


def test_the_same_generator_state_writes_the_same_review() -> None:
    first, second = (write_review("The Silent Mirror", random.Random(7), title_share=0.5) for _ in range(2))
    assert first == second
