"""Means and shares with an interval whose unit is the prompt: answers to one prompt are not independent of each other."""

import math

import numpy as np

from dpo_lab.amounts import count_of
from dpo_lab.evaluation.statistics.estimate import Estimate
from dpo_lab.evaluation.statistics.observed import Numbers, Observed
from dpo_lab.evaluation.statistics.shares import wilson
from dpo_lab.evaluation.statistics.students_t import quantile_95

ROUNDING = 1e-12  # a spread below this share of the numbers' size is rounding


def clustered_error(residuals: Numbers, size: float) -> float:
    """Return the clustered standard error of a mean, 0 where the prompts differ by rounding alone.

    It is the sandwich estimate with the factor prompts / (prompts - 1) (Liang and Zeger 1986; Cameron and Miller 2015, eq. 11-12
    with a constant alone); with one answer to each prompt it is sd / sqrt(n).

    Args:
        residuals: by how much each prompt moves the mean (`ByPrompt.residuals`), of two prompts or more.
        size: of the numbers, to tell rounding from spread.
    """
    prompts = len(residuals)
    error = math.sqrt(prompts / (prompts - 1) * float((residuals**2).sum()))
    return error if error > ROUNDING * max(size, ROUNDING) else 0.0


def mean_of(observed: Observed) -> Estimate:
    """Return a mean, or with `counts` a ratio of sums, and its interval by Student's t with prompts - 1 degrees of freedom.

    >>> mean_of(Observed([1.0, 2.0, 3.0, 6.0], ["a", "a", "b", "b"])).value
    3.0
    """
    grouped = observed.by_prompt
    value, prompts, items = grouped.value, len(grouped.prompts), len(observed.values)
    if prompts == 1:
        return Estimate(value=value, prompts=1, items=items, why_none="one prompt says nothing about others")
    error = clustered_error(grouped.residuals, float(np.abs(grouped.sums).max() / grouped.counts.mean()))
    if error == 0:
        return Estimate(value=value, prompts=prompts, items=items, why_none=f"all {prompts} prompts have the same value")
    half = quantile_95(prompts - 1) * error
    return Estimate(value=value, low=value - half, high=value + half, standard_error=error, prompts=prompts, items=items)


def share_of(observed: Observed) -> Estimate:
    """Return a mean of outcomes from 0 to 1, such as wins with ties as a half, and its interval by Wilson's formula.

    Where every prompt has one outcome, 0 or 1, it is Wilson's interval itself. Otherwise the number of trials is the one that
    would give the clustered standard error, and the quantile is Student's (Dean and Pagano 2015, J. Surv. Stat. Methodol. 3:484):
    t intervals around a share near 0 or 1 fail, clustered or not. Where all outcomes are 0, or all 1, each prompt counts once.

    Raises:
        ValueError: for an outcome below 0 or above 1.

    >>> share_of(Observed([1.0, 0.0, 1.0, 1.0, 0.5, 0.0], ["a", "a", "b", "b", "c", "c"])).text()
    '.58 [.10, .94]'
    >>> share_of(Observed([1.0] * 40, [str(number // 2) for number in range(40)])).text()
    '1.00 [.84, 1.00]'
    """
    grouped = observed.by_prompt
    value, prompts, items = grouped.value, len(grouped.prompts), len(observed.values)
    if prompts == 1:
        return Estimate(value=value, prompts=1, items=items, why_none="one prompt says nothing about others")
    if not 0 <= min(observed.values) <= max(observed.values) <= 1:
        raise ValueError(f"outcomes are from 0 to 1; found {min(observed.values)} to {max(observed.values)}.")
    error = clustered_error(grouped.residuals, 1.0)
    independent = items == prompts and bool(np.isin(observed.values, (0.0, 1.0)).all())
    if independent or value in (0.0, 1.0):
        low, high = wilson(value, prompts)
    elif error == 0:
        why = f"all {count_of(prompts, 'prompt')} have the same share"
        return Estimate(value=value, prompts=prompts, items=items, why_none=why)
    else:
        trials = value * (1 - value) / (error**2 * (prompts - 1) / prompts)
        low, high = wilson(value, trials, quantile_95(prompts - 1))
    return Estimate(value=value, low=low, high=high, standard_error=error, prompts=prompts, items=items)
