"""Tokens of held-out pairs coloured by their log-ratio, policy to reference: which of them a preference stands on."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHARES = (0.1, 0.2, 0.5, 1.0)
"""Of the scale's end: log-ratios from which a token is a step more coloured, on either side."""
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories of characters that a page would not show, or that would change how others are shown."""


@dataclass(frozen=True)
class Token:
    """A token of a response."""

    text: str
    shade: str
    """Class of the style sheet: up1 to up4 likelier than under the reference, down1 to down4 less likely, empty: the same."""
    title: str
    """The log-ratio, shown when the token is pointed at."""


@dataclass(frozen=True)
class Side:
    """A response of a pair."""

    label: str
    tokens: list[Token]
    rest: str
    """What is said of tokens that are left out."""


@dataclass(frozen=True)
class Pair:
    """A held-out pair."""

    title: str
    prompt: str
    sides: list[Side]


@dataclass(frozen=True)
class Credit:
    """What the page shows of token credit."""

    steps: tuple[float, ...]
    """Nats from which a token is a step more coloured."""
    pairs: list[Pair]


def credit_of(found: Sequence[Mapping[str, Any]]) -> Credit | None:
    """Return the pairs for the page, from what run.json says of them; None without any."""
    if not found:
        return None
    steps = steps_of([float(ratio) for pair in found for side in ("chosen", "rejected") for ratio in pair[side]["ratios"]])
    pairs = [
        Pair(
            title=f"{pair['end']}, margin {pair['margin']:+.2f} nats{': wrong' if pair['margin'] <= 0 else ''}",
            prompt=visible(pair["prompt"]),
            sides=[_side(name, pair[name], steps) for name in ("chosen", "rejected")],
        )
        for pair in found
    ]
    return Credit(steps, pairs)


def steps_of(ratios: Sequence[float]) -> tuple[float, ...]:
    """Return the steps of a scale that ends at a round number which about one token in twenty reaches.

    >>> steps_of([0.01] * 18 + [0.6, -3.0]), steps_of([])
    ((0.05, 0.1, 0.25, 0.5), (0.1, 0.2, 0.5, 1.0))
    """
    sizes = sorted(abs(ratio) for ratio in ratios if ratio)
    reached = sizes[min(len(sizes) - 2, int(0.95 * len(sizes)))] if len(sizes) > 1 else (sizes or [1.0])[0]
    power = 10.0 ** math.floor(math.log10(reached))
    end = max(factor * power for factor in (1, 2, 5) if factor * power <= reached * (1 + 1e-9))
    return tuple(float(f"{share * end:.6g}") for share in SHARES)


def _side(name: str, side: Mapping[str, Any], steps: Sequence[float]) -> Side:
    ratios = [float(ratio) for ratio in side["ratios"]]
    total = sum(ratios) + side["rest"]
    tokens = [
        Token(visible(text) or "\N{MIDDLE DOT}", shade_of(ratio, steps), f"{ratio:+.3f} nats")
        for text, ratio in zip(side["pieces"], ratios, strict=True)
    ]
    rest = f"{side['left_out']} more tokens, {side['rest']:+.2f} nats" if side["left_out"] else ""
    return Side(f"{name}, {total:+.2f} nats", tokens, rest)


def shade_of(ratio: float, steps: Sequence[float]) -> str:
    """Return how a token is coloured.

    >>> [shade_of(each, (0.1, 0.5, 1.0, 2.0)) for each in (0.05, 0.1, -0.7, 3.0, float("nan"))]
    ['', 'up1', 'down2', 'up4', '']
    """
    level = sum(abs(ratio) >= step for step in steps)
    return f"{'up' if ratio > 0 else 'down'}{level}" if level else ""


def visible(text: str) -> str:
    """Return text in which every character can be seen: line ends as an arrow before them, others that hide as their number.

    >>> visible("a\\n\\u202eb\\x00")
    'a\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}\\n\\\\u202eb\\\\u0000'
    """
    return "".join(_seen(character) for character in text)


def _seen(character: str) -> str:
    if character == "\n":
        return "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}\n"
    if character == "\t":
        return "\N{RIGHTWARDS ARROW}\t"
    return f"\\u{ord(character):04x}" if unicodedata.category(character) in HIDDEN else character
