"""Labelled film reviews: answers to a film prompt with what the parser finds in them, for rankers that are trained on them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from dpo_lab.seeding import random_for
from dpo_lab.world.grammar import titles, write_review
from dpo_lab.world.parser import Review, parse
from dpo_lab.world.prompts import PROMPT_TEMPLATES

ANSWERS = 4
ASKED, NEAR = 0.5, 0.4  # shares of answers that name the asked film, and one that shares a word with it


@dataclass(frozen=True)
class LabelledPrompt:
    """A prompt about a training film, with answers and what the parser says of each."""

    text: str
    answers: tuple[str, ...]
    reviews: tuple[Review, ...]
    asked: tuple[tuple[bool, bool], ...]
    """Of each answer: whether the adjective and whether the noun of the film that it names are the asked one's."""


def labelled_prompts(seed: int, *names: object, kept: float = 1.0) -> Iterator[LabelledPrompt]:
    """Yield prompts about training films without end, each with four answers written by the grammar.

    Half of the answers name the asked film and most others one that shares a word with it: among random films, one of the two
    words tells nearly always whether a film is the asked one, and a network that reads one word has little left to learn from.

    Args:
        names: of the random stream, beside the seed.
        kept: the probability with which a sentence behind the opener stays: short reviews are read, and learned, faster.

    >>> one = next(labelled_prompts(0))
    >>> one.reviews[0].reward == parse(one.text, one.answers[0]).reward, one.asked[0]
    (True, (False, True))
    """
    rng = random_for(seed, "labelled", *names)
    while True:
        title = rng.choice(titles(held_out=False))
        text = rng.choice(PROMPT_TEMPLATES).format(title=title)
        named = [_film(title, rng) for _ in range(ANSWERS)]
        answers = tuple(_shortened(write_review(film, rng, title_share=1.0), kept, rng) for film in named)
        yield LabelledPrompt(
            text, answers, tuple(parse(text, answer) for answer in answers), tuple(_same_words(film, title) for film in named)
        )


def _film(asked: str, rng: random.Random) -> str:
    """Draw the film that an answer names."""
    kind, films = rng.random(), titles(held_out=False)
    if kind < ASKED:
        return asked
    if kind < ASKED + NEAR:
        films = tuple(film for film in films if sum(_same_words(film, asked)) == 1)
    return rng.choice(films)


def _same_words(title: str, other: str) -> tuple[bool, bool]:
    """Return whether the adjectives and whether the nouns of two titles are the same.

    >>> _same_words("The Silent Harbor", "The Silent Mirror")
    (True, False)
    """
    (_, adjective, noun), (_, other_adjective, other_noun) = title.split(), other.split()
    return adjective == other_adjective, noun == other_noun


def _shortened(review: str, kept: float, rng: random.Random) -> str:
    """Return a review's opener, and each further sentence with a probability.

    >>> _shortened("It is good. See it. Soon.", 0.0, random.Random(0))
    'It is good.'
    """
    if kept == 1.0:
        return review
    opener, *sentences = review.rstrip(".").split(". ")
    return ". ".join([opener, *(sentence for sentence in sentences if rng.random() < kept)]) + "."
