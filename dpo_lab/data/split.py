"""Held-out pairs: chosen by prompt, so that no prompt is both trained and evaluated."""

from collections.abc import Sequence
from typing import Literal

from dpo_lab.data.problems import DataError
from dpo_lab.records import PreferencePair
from dpo_lab.seeding import random_for

MAX_HELD_OUT = 500
"""Prompts held out at most by default: an accuracy over 500 has a standard error of 2.2 points at worst."""
Count = int | Literal["all"] | None
"""How many prompts are held out: so many; all of them, for a file that is there for evaluation alone; None: the default."""


def split_by_prompt(
    pairs: Sequence[PreferencePair], held_out: Count, seed: int
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """Return (training pairs, held-out pairs), each in the order of `pairs`; all pairs of a prompt stay together.

    Args:
        pairs: the pairs of one data set.
        held_out: prompts to hold out; None takes a fifth of them, rounded down, at most `MAX_HELD_OUT`; 0 takes none; `all`
            leaves nothing to train on.
        seed: decides which prompts, whatever the order of `pairs`.

    Raises:
        DataError: holding out this many prompts would leave none to train on.
    """
    if held_out == "all":
        return [], list(pairs)
    prompts = sorted({pair.prompt.id for pair in pairs})
    count = default_held_out(len(prompts)) if held_out is None else held_out
    if count < 0:
        raise DataError(
            f"data.held_out={count} is not a number of prompts. Use 0 or more, or null for a fifth of them.", code="held_out"
        )
    if held_out != 0 and len(prompts) <= 1:
        raise DataError(
            f"The data has {len(prompts)} prompt, so none can be held out for evaluation without leaving none to train on. "
            "Add pairs for other prompts, or use data.held_out=0 to train without held-out figures.",
            code="held_out",
        )
    if count and count >= len(prompts):
        raise DataError(
            f"data.held_out={count} would hold out every prompt: the data has {len(prompts)}. "
            f"Use data.held_out={len(prompts) - 1} at most, or data.held_out=null for a fifth of them.",
            code="held_out",
        )
    chosen = set(random_for(seed, "held_out").sample(prompts, count))
    train = [pair for pair in pairs if pair.prompt.id not in chosen]
    return train, [pair for pair in pairs if pair.prompt.id in chosen]


def held_out_of(pairs: Sequence[PreferencePair], held_out: Count, seed: int) -> list[PreferencePair]:
    """Return the pairs of some prompts of a split that is there for evaluation; None takes at most `MAX_HELD_OUT` prompts.

    Raises:
        DataError: the split has fewer prompts.
    """
    if held_out == "all":
        return list(pairs)
    prompts = sorted({pair.prompt.id for pair in pairs})
    count = min(MAX_HELD_OUT, len(prompts)) if held_out is None else held_out
    if count > len(prompts):
        raise DataError(
            f"data.held_out={count}, and the split for evaluation has {len(prompts)} prompts. "
            f"Use at most {len(prompts)}, or null.",
            code="held_out",
        )
    chosen = set(random_for(seed, "held_out").sample(prompts, count))
    return [pair for pair in pairs if pair.prompt.id in chosen]


def default_held_out(num_prompts: int) -> int:
    """Return how many prompts are held out where the configuration does not say.

    >>> [default_held_out(count) for count in (2, 9, 40, 10_000)]
    [0, 1, 8, 500]
    """
    return min(MAX_HELD_OUT, num_prompts // 5)
