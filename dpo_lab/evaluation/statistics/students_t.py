"""Student's t distribution: its tails and its 95 % quantile, without scipy at run time."""

import math
from functools import cache

from dpo_lab.evaluation.statistics.shares import Z95

STEPS = 300  # of the continued fraction; 20 to 60 are enough where it is used
TINY = 1e-300


def two_sided_p(t: float, degrees: float) -> float:
    """Return the probability that |T| is at least |t|.

    >>> round(two_sided_p(2.0, 10), 6), two_sided_p(0.0, 10)
    (0.073388, 1.0)
    """
    square = t * t
    if math.isinf(square):
        return 0.0
    return incomplete_beta(degrees / (degrees + square), square / (degrees + square), degrees / 2, 0.5)


@cache
def quantile_95(degrees: float) -> float:
    """Return the value that |T| exceeds with probability 5 %: 1.96 for many degrees of freedom.

    >>> round(quantile_95(1), 4), round(quantile_95(29), 4)
    (12.7062, 2.0452)
    """
    low, high = Z95, 13.0
    for _ in range(45):  # halvings: 3e-13
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided_p(middle, degrees) > 0.05 else (low, middle)
    return (low + high) / 2


def incomplete_beta(x: float, rest: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22).

    Args:
        rest: 1 - x; a caller who has it without cancellation keeps the digits of a small one.
    """
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # where the fraction of the other side converges faster
        return 1.0 - incomplete_beta(rest, x, b, a)
    log_front = a * math.log(x) + b * math.log(rest) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(log_front) / a / _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """Return 1 + d1/(1 + d2/(1 + ...)) by the method of Lentz, from the front."""
    value, c, d = 1.0, 1.0, 0.0
    for step in range(1, STEPS + 1):
        half = step // 2
        if step % 2:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        else:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        d = 1 / ((1 + term * d) or TINY)
        c = (1 + term / c) or TINY
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value
