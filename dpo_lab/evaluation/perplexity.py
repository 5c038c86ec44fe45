"""Perplexity of answers under a model, and how far training has moved it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpo_lab.evaluation.statistics import Observed, mean_of
from dpo_lab.figures import Figure

Numbers = Sequence[float] | NDArray[Any]
Prompts = Sequence[str | int] | Sequence[str] | NDArray[Any]
LARGEST = 700.0  # nats per token: the exponential of more overflows float64

CHOSEN = Figure(
    name="eval/perplexity/chosen",
    title="perplexity of the chosen responses",
    formula="exp(-sum log pi(y_w) / sum tokens(y_w))",
    interval=True,
    headline=False,
)
DRIFT = Figure(
    name="eval/perplexity/drift",
    title="the same divided by that under the reference: above 1, the policy leaves the chosen responses",
    formula="exp(sum (log ref(y_w) - log pi(y_w)) / sum tokens(y_w))",
    interval=True,
    headline=False,
    start=1.0,
)


def perplexity(name: str, nats: Sequence[float], prompts: Prompts, tokens: Numbers) -> dict[str, float]:
    """Return exp(sum of nats / sum of tokens) as a figure with its interval; nothing if a number is not finite.

    >>> perplexity("p", [2 * math.log(3), 2 * math.log(3)], ["a", "b"], [2, 2])["p"]
    3.0000000000000004

    Args:
        nats: -log-probability of each answer; minus that under another model for the factor between the two.
        prompts: of each answer, the unit of the interval.
        tokens: of each answer.
    """
    if not np.isfinite(np.asarray(nats, dtype=float)).all():
        return {}
    mean = mean_of(Observed(nats, prompts, tokens)).figures(name)
    return {end: math.exp(min(value, LARGEST)) for end, value in mean.items()}


def of_chosen(
    policy: Sequence[float], reference: Sequence[float] | None, prompts: Sequence[str], tokens: Sequence[float]
) -> dict[str, float]:
    """Return the perplexity of the chosen responses of pairs, and its drift.

    Args:
        policy: log-probability of each chosen response.
        reference: the same under the reference; None without one.
    """
    found = perplexity(CHOSEN.name, [-value for value in policy], prompts, tokens)
    if reference is None:
        return found
    moved = [before - after for before, after in zip(reference, policy, strict=True)]
    return found | perplexity(DRIFT.name, moved, prompts, tokens)
