"""Two models on the same prompts: their difference with its interval, and how many prompts would tell them apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from dpo_lab.amounts import count_of
from dpo_lab.evaluation.statistics.clustered import clustered_error
from dpo_lab.evaluation.statistics.estimate import Estimate
from dpo_lab.evaluation.statistics.observed import ByPrompt, Observed
from dpo_lab.evaluation.statistics.students_t import quantile_95, two_sided_p

LEVEL = 0.05  # how often equal models may be told apart
POWER = 0.8  # how often the needed number of prompts would tell models apart whose difference is the one seen
FEWEST = 6
"""Of prompts that differ: if a coin decides each, five fall to the same side in 1 of 16 cases, six in 1 of 32."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One model's mean minus another's, on the same prompts."""

    estimate: Estimate
    p_value: float
    """Of no difference: Student's t, but never below what a coin for each prompt that differs can give."""
    differing: int
    """The prompts on which the models differ."""

    def more_prompts(self, level: float = LEVEL) -> int | None:
        """Return how many more prompts would tell the models apart if the difference is the one seen; None if it is 0.

        With so many more, a test at this level finds such a difference four times in five.

        >>> ours = Observed([1.0, 0.0, 1.0, 1.0] * 9, range(36))
        >>> theirs = Observed([0.0, 1.0, 1.0, 1.0] * 8 + [0.0] * 4, range(36))
        >>> difference_of(ours, theirs).more_prompts()
        570
        """
        error, value = self.estimate.standard_error, self.estimate.value
        if not error or not value:
            return None
        quantiles = NormalDist().inv_cdf(1 - level / 2) + NormalDist().inv_cdf(POWER)
        needed = max((quantiles * error / value) ** 2, FEWEST / self.differing)
        return max(0, math.ceil(self.estimate.prompts * (needed - 1)))


def difference_of(ours: Observed, theirs: Observed) -> Difference:
    """Return the mean of one model minus that of another, with an interval whose unit is the prompt.

    The answers to a prompt need not be as many on both sides. What makes a prompt hard for both models cancels, so that the
    interval is narrower than the models' own intervals suggest.

    Raises:
        ValueError: if the two were not observed on the same prompts.

    >>> ours = Observed([1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0], list("abcdefgh"))
    >>> theirs = Observed([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0], list("abcdefgh"))
    >>> difference_of(ours, theirs).estimate.text()
    '.75 [.36, 1.14]'
    """
    own, other = ours.by_prompt, theirs.by_prompt
    order = _same_prompts(own.prompts, other.prompts)
    value, prompts = own.value - other.value, len(own.prompts)
    residuals = own.residuals - other.residuals[order]
    differing = int((np.abs(own.sums / own.counts - (other.sums / other.counts)[order]) > 0).sum())
    items = max(len(ours.values), len(theirs.values))
    if prompts == 1:
        none = Estimate(value=value, prompts=1, items=items, why_none="one prompt says nothing about others")
        return Difference(estimate=none, p_value=1.0, differing=differing)
    error = clustered_error(residuals, _size(own) + _size(other))
    if error == 0 or differing < FEWEST:
        why = f"they differ on {count_of(differing, 'prompt')} of {prompts}; fewer than {FEWEST} cannot tell"
        if error == 0 and differing >= FEWEST:
            why = f"the difference is the same on all {prompts} prompts"
        none = Estimate(value=value, standard_error=error or None, prompts=prompts, items=items, why_none=why)
        return Difference(estimate=none, p_value=_coin(differing), differing=differing)
    half = quantile_95(prompts - 1) * error
    estimate = Estimate(value=value, low=value - half, high=value + half, standard_error=error, prompts=prompts, items=items)
    p_value = max(two_sided_p(value / error, prompts - 1), _coin(differing))
    return Difference(estimate=estimate, p_value=p_value, differing=differing)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values of a family, each adjusted so that any false finding among them is as rare as its level (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda each: p_values[each])):
        highest = max(highest, min(1.0, p_values[at] * (len(p_values) - rank)))
        adjusted[at] = highest
    return adjusted


def _same_prompts(ours: tuple[str | int, ...], theirs: tuple[str | int, ...]) -> list[int]:
    """Return where each of our prompts stands among theirs."""
    places = {prompt: at for at, prompt in enumerate(theirs)}
    missing = [prompt for prompt in ours if prompt not in places]
    if missing or len(ours) != len(theirs):
        extra = set(theirs) - set(ours)
        raise ValueError(
            f"{count_of(len(missing), 'prompt')} of {len(ours)} of the one, and {len(extra)} of the other, stand alone."
        )
    return [places[prompt] for prompt in ours]


def _coin(differing: int) -> float:
    """Return the smallest p-value of a test that tosses a coin for each prompt that differs."""
    return min(1.0, 2.0 ** (1 - differing))


def _size(grouped: ByPrompt) -> float:
    return float(np.abs(grouped.sums).max() / grouped.counts.mean())
