"""Wilson's interval of a share."""

import math

Z95 = 1.959963984540054  # two-sided 95 %


def wilson(share: float, count: float, quantile: float = Z95) -> tuple[float, float]:
    """Return the Wilson 95 % interval of a share seen in `count` independent trials (Wilson 1927, eq. 4).

    Its coverage holds near 0 and 1, where share +- 2 standard errors fails (.94 against .87 at p = .95, n = 100).

    Args:
        share: from 0 to 1.
        count: of trials; trials that depend on each other count as fewer (`clustered.share_of`).
        quantile: of the normal distribution, or of Student's t where the number of trials is itself an estimate.

    >>> low, high = wilson(0.5, 10)
    >>> round(low, 4), round(high, 4)
    (0.2366, 0.7634)
    """
    if count == 0:
        return 0.0, 1.0
    centre = share + quantile**2 / (2 * count)
    half = quantile * math.sqrt(share * (1 - share) / count + quantile**2 / (4 * count**2))
    return (centre - half) / (1 + quantile**2 / count), (centre + half) / (1 + quantile**2 / count)
