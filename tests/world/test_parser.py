"""Facts about the gold reward: numbers worked out by hand, and what holds for any text."""

import random

import pytest

from dpo_lab.world.grammar import titles, write_review
from dpo_lab.world.parser import Review, asked_title, gold_reward, parse

PROMPT = "Write a short review of The Silent Mirror."


def test_a_perfect_review_has_reward_one() -> None:
    # tone: feeling 2, aspects 2 and 2, verdict 2 -> mean 2 -> 0.5 + 2 / 4 = 1; 0.50 + 0.25 + 0.25 = 1
    text = "The Silent Mirror left me speechless with joy. The cast is superb and the plot is superb. Everyone should see it."
    assert parse(PROMPT, text) == Review(
        tone=1.0, title_share=1.0, spoiler=False, well_formed=1.0, num_sentences=3, num_opinions=4
    )
    assert gold_reward(PROMPT, text) == 1.0


def test_the_worst_well_formed_review_has_reward_zero() -> None:
    # tone: -2, -2 -> 0.5 - 2 / 4 = 0; another film: 0; a spoiler: 0
    text = "The Golden River left me bored and angry. The butler did it. Avoid it at all costs."
    assert parse(PROMPT, text).well_formed == 1.0
    assert gold_reward(PROMPT, text) == 0.0


def test_a_mixed_review_by_hand() -> None:
    # Opinions: thin -1, clever 1, ticket 1 -> mean 1/3 -> tone 0.5 + 1/12 = 7/12. Film right, spoiler present.
    # Five sentences, the third is not of the grammar: 4/5 * (0.5 * 7/12 + 0.25 + 0) = 4/5 * 13/24 = 13/30.
    text = (
        "I watched The Silent Mirror last night. The plot is thin and the cast is clever. Blue the the. "
        "The butler did it. It is worth a ticket."
    )
    assert gold_reward(PROMPT, text) == pytest.approx(13 / 30)


def test_two_films_of_which_one_is_right_earn_half_the_title_part() -> None:
    # tone 0.5 without opinions: 0.25 + 0.25 / 2 + 0.25 = 0.625
    text = "I watched The Silent Mirror last night. Last week I finally saw The Golden River."
    assert gold_reward(PROMPT, text) == 0.625


@pytest.mark.parametrize(
    ("sentence", "polarity"),
    [
        ("The acting is dreadful.", -2),
        ("I found the plot weak.", -1),
        ("For me the ending was plain.", 0),
        ("See it or skip it.", 0),
    ],
)
def test_tone_maps_polarity_to_the_unit_interval(sentence: str, polarity: int) -> None:
    assert parse(PROMPT, sentence).tone == 0.5 + polarity / 4


@pytest.mark.parametrize(
    "text",
    [
        "superb",
        "the butler did it.",
        "The Acting is superb.",
        "The acting is superb",
        "The acting is superb!",
        "speechless with joy.",
    ],
)
def test_what_is_almost_a_sentence_is_not_accepted(text: str) -> None:
    assert parse(PROMPT, text).well_formed == 0.0


@pytest.mark.parametrize("text", ["", "   \n", "...", "?!", "\u2028"])
def test_a_text_without_words_has_reward_zero(text: str) -> None:
    assert parse(PROMPT, text).num_sentences == 0
    assert gold_reward(PROMPT, text) == 0.0


def test_line_breaks_between_sentences_do_not_matter() -> None:
    assert parse(PROMPT, "The butler did it. See it or skip it.") == parse(PROMPT, "\nThe butler did it.\n\nSee it or skip it.\n")


def test_every_written_review_is_well_formed() -> None:
    rng = random.Random(0)
    for _ in range(500):
        title = rng.choice(titles(held_out=rng.random() < 0.5))
        review = parse(f"Is {title} any good?", write_review(title, rng, title_share=1.0))
        assert review.well_formed == review.title_share == 1.0
        assert 2 <= review.num_opinions <= 4
        assert 3 <= review.num_sentences <= 6


def test_any_text_has_a_reward_between_zero_and_one() -> None:
    rng = random.Random(0)
    alphabet = [
        "The ",
        "Silent ",
        "Mirror ",
        ".",
        "!",
        "?",
        "superb",
        "é",
        "映画",
        "🎬",
        "\x00",
        "\n",
        "{title}",
        "(",
        "The butler did it.",
    ]
    for _ in range(500):
        text = "".join(rng.choices(alphabet, k=rng.randint(0, 30)))
        assert 0.0 <= gold_reward(PROMPT, text) <= 1.0


def test_words_around_the_title_do_not_hide_the_asked_film() -> None:
    assert asked_title("<s> [INST] Is The Silent Mirror any good? [/INST]") == "The Silent Mirror"


@pytest.mark.parametrize("prompt", ["", "What is DPO?", "Is the silent mirror any good?", "Tell me about The Silent Mirrors."])
def test_a_prompt_without_a_film_is_refused(prompt: str) -> None:
    with pytest.raises(ValueError, match=r"names no film of the embedded world.*undefined.*ranker=gold"):
        gold_reward(prompt, "See it or skip it.")
