"""The language of the film world: words, sentence templates, film titles and the writing of a random review."""

import random
from collections.abc import Mapping
from functools import cache

ADJECTIVES = (  # noqa: SIM905 - 32 words read better as text than as a list of one word a line
    "Silent Crimson Golden Broken Distant Hidden Frozen Quiet Burning Lonely Paper Velvet Wild Hollow Bitter Gentle "
    "Ancient Silver Secret Sleeping Purple Restless Sacred Empty Northern Crooked Tender Stolen Second Final Scarlet Little"
).split()
NOUNS = (  # noqa: SIM905
    "Harbor Garden Mirror Bridge Winter Letter Engine Orchard Lantern River Castle Violin Desert Station Shadow Summer "
    "Island Window Forest Market Tower Candle Ocean Valley Hotel Railway Captain Meadow Painter Dancer Soldier Kingdom"
).split()

Phrases = Mapping[int, tuple[str, ...]]
"""Phrases by polarity, from -2 (worst) to 2 (best)."""

ASPECTS = ("acting", "plot", "music", "pacing", "dialogue", "photography", "ending", "cast")
QUALITIES: Phrases = {
    -2: ("dreadful", "unbearable", "insulting"),
    -1: ("weak", "clumsy", "thin"),
    0: ("ordinary", "acceptable", "plain"),
    1: ("solid", "charming", "clever"),
    2: ("superb", "breathtaking", "unforgettable"),
}
FEELINGS: Phrases = {
    -2: ("bored and angry", "sorry I ever went"),
    -1: ("a little cold", "mildly annoyed"),
    0: ("undecided", "neither happy nor sad"),
    1: ("quietly pleased", "in a good mood"),
    2: ("speechless with joy", "completely in love"),
}
VERDICTS: Phrases = {
    -2: ("Avoid it at all costs.", "Nobody should pay for this."),
    -1: ("I would not see it again.", "There are better films."),
    0: ("It passes the time.", "See it or skip it."),
    1: ("I would gladly see it again.", "It is worth a ticket."),
    2: ("Everyone should see it.", "It is the film of the year."),
}
SPOILERS = (
    "By the way, the hero dies at the end.",
    "The butler did it.",
    "In the last scene it was all a dream.",
    "The twins turn out to be one person.",
)
FILLERS = (
    "The screening was almost full.",
    "I went with my sister.",
    "It runs for about two hours.",
    "We sat in the second row.",
)

FEELING_OPENER = "{title} left me {feeling}."
NEUTRAL_OPENERS = ("I watched {title} last night.", "Last week I finally saw {title}.")
ONE_ASPECT = ("The {aspect} is {quality}.", "I found the {aspect} {quality}.", "For me the {aspect} was {quality}.")
TWO_ASPECTS = "The {aspect} is {quality} and the {second_aspect} is {second_quality}."


def is_held_out(i: int, j: int) -> bool:
    """Return whether the film of adjective i and noun j (counted from 0) is kept for evaluation: 53 of the 1024.

    The choice looks random on purpose. With a regular one ((i + j) % 4 == 0) a small model learns the rule and
    avoids the held-out films: it named the asked film in .45 of its answers in training and in .10 on held-out films.
    """
    return (i * 7919 + j * 104729 + i * j * 31) % 1009 % 16 == 3


@cache
def titles(*, held_out: bool) -> tuple[str, ...]:
    """Return the titles of the held-out films or of the training films, in the order of the word lists.

    >>> titles(held_out=False)[0], len(titles(held_out=False)), len(titles(held_out=True))
    ('The Silent Harbor', 971, 53)
    """
    return tuple(
        f"The {adjective} {noun}"
        for i, adjective in enumerate(ADJECTIVES)
        for j, noun in enumerate(NOUNS)
        if is_held_out(i, j) == held_out
    )


def write_review(
    title: str,
    rng: random.Random,
    *,
    title_share: float,
    spoiler_share: float = 0.5,
    filler_share: float = 0.3,
    two_aspects_share: float = 0.6,
) -> str:
    """Return a random review: an opener, one or two aspects, perhaps a filler, a verdict, perhaps a spoiler.

    The shares are probabilities in [0, 1]. With probability `title_share` the review names `title`, otherwise a
    random training film (which is `title` again in one case of 971); it names no other held-out film.

    >>> write_review("The Silent Mirror", random.Random(1), title_share=1.0, spoiler_share=0.0)
    'The Silent Mirror left me in a good mood. We sat in the second row. I found the plot solid. I would gladly see it again.'
    """
    named = title if rng.random() < title_share else rng.choice(titles(held_out=False))
    aspects = rng.sample(ASPECTS, 2 if rng.random() < two_aspects_share else 1)
    sentences = [_opener(named, rng), *_opinions(aspects, rng)]
    if rng.random() < filler_share:
        sentences.insert(rng.randint(1, len(sentences)), rng.choice(FILLERS))
    sentences.append(_any_phrase(VERDICTS, rng))
    if rng.random() < spoiler_share:
        sentences.insert(rng.randint(1, len(sentences)), rng.choice(SPOILERS))
    return " ".join(sentences)


def _opener(title: str, rng: random.Random) -> str:
    if rng.random() < 0.5:
        return FEELING_OPENER.format(title=title, feeling=_any_phrase(FEELINGS, rng))
    return rng.choice(NEUTRAL_OPENERS).format(title=title)


def _opinions(aspects: list[str], rng: random.Random) -> list[str]:
    if len(aspects) == 2 and rng.random() < 0.5:
        first, second = (_any_phrase(QUALITIES, rng) for _ in aspects)
        return [TWO_ASPECTS.format(aspect=aspects[0], quality=first, second_aspect=aspects[1], second_quality=second)]
    return [rng.choice(ONE_ASPECT).format(aspect=aspect, quality=_any_phrase(QUALITIES, rng)) for aspect in aspects]


def _any_phrase(phrases: Phrases, rng: random.Random) -> str:
    """Draw the polarity first, so that every polarity is equally likely."""
    return rng.choice(phrases[rng.randint(-2, 2)])
