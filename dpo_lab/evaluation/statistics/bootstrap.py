"""The cluster bootstrap: an interval for statistics that no formula fits, by drawing prompts again."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dpo_lab.evaluation.statistics.estimate import Estimate
from dpo_lab.seeding import derive

DRAWS = 2000


def cluster_bootstrap(
    statistic: Callable[[NDArray[np.int64]], float], prompts: int, *, items: int, seed: int, name: str, draws: int = DRAWS
) -> Estimate:
    """Return a statistic of all prompts with its percentile interval (Efron 1979; Field and Welsh 2007 for clusters).

    Args:
        statistic: of the prompts at these places, which may stand there more than once; an answer goes with its prompt.
        prompts: how many there are.
        items: how many answers or pairs belong to them.
        seed: of the run.
        name: of the figure, so that each has its own draws.

    >>> lengths = np.array([10.0, 20.0, 30.0, 40.0])
    >>> cluster_bootstrap(lambda at: float(np.median(lengths[at])), 4, items=4, seed=0, name="median").value
    25.0
    """
    value = statistic(np.arange(prompts))
    if prompts == 1:
        return Estimate(value=value, prompts=1, items=items, why_none="one prompt says nothing about others")
    random = np.random.default_rng(derive(seed, "bootstrap", name))
    drawn = np.sort([statistic(random.integers(prompts, size=prompts)) for _ in range(draws)])
    if drawn[0] == drawn[-1]:
        return Estimate(value=value, prompts=prompts, items=items, why_none=f"all {prompts} prompts say the same")
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(
        value=value, low=float(low), high=float(high), standard_error=float(drawn.std(ddof=1)), prompts=prompts, items=items
    )
