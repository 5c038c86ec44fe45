"""From results to figures: who may be compared, seconds with and without the reference, ratios of medians."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scripts.bench import flops, task
from scripts.bench.task import Result

LOSS_TOLERANCE = {"fp32": 1e-4, "bf16-mixed": 5e-3}
NORM_TOLERANCE = {"fp32": 1e-2, "bf16-mixed": 3e-2}
"""Relative. bf16 rounds to 3 digits, and every contestant's matrices have other shapes: the losses then differ by 1e-3."""


def objections(results: Mapping[str, Result], precision: str, steps: int = task.COMPARED_STEPS) -> list[str]:
    """Return why results must not be compared by their seconds: they have to do the same training, and to train at all."""
    found = []
    first_name, first = next(iter(results.items()))
    for name, result in results.items():
        norms, losses = result.grad_norms, result.losses
        if len(losses) < steps or len(norms) < steps:
            found.append(f"{name}: reports {len(losses)} losses and {len(norms)} gradient norms, not {steps}.")
            continue
        if not all(math.isfinite(norm) and norm > 0 for norm in norms):
            found.append(f"{name}: gradient norms {norms}; without a gradient equal losses say nothing.")
        tolerance = LOSS_TOLERANCE[precision]
        if not abs(losses[0] - math.log(2)) <= tolerance:
            found.append(f"{name}: the first loss is {losses[0]:.6f}, not ln 2: policy and reference do not start equal.")
        gap = largest(loss - other for loss, other in zip(losses, first.losses, strict=False))
        if not gap <= tolerance:
            found.append(f"{name}: losses {losses} differ from {first_name}'s {first.losses} by {gap:.2g} (at most {tolerance}).")
        gap = largest(norm / other - 1 if other else math.nan for norm, other in zip(norms, first.grad_norms, strict=False))
        if not gap <= NORM_TOLERANCE[precision]:
            found.append(f"{name}: gradient norms {norms} differ from {first_name}'s {first.grad_norms} by {gap:.2g} of them.")
    return found


def largest(gaps: Iterable[float]) -> float:
    """Return the largest absolute value, NaN if one is: Python's max would pass it over.

    >>> largest([0.5, -2.0]), largest([0.5, math.nan])
    (2.0, nan)
    """
    values = [abs(gap) for gap in gaps]
    return math.nan if any(map(math.isnan, values)) else max(values, default=0.0)


def excluding(result: Result) -> list[float]:
    """Return the CPU seconds of each timed epoch without the reference."""
    if result.reference_cached:
        return result.epoch_seconds
    return [all_of_it - part for all_of_it, part in zip(result.epoch_seconds, result.reference_seconds, strict=True)]


def including(result: Result) -> list[float]:
    """Return the CPU seconds of each timed epoch as if it were the only one: with the reference."""
    if not result.reference_cached:
        return result.epoch_seconds
    return [seconds + result.reference_seconds[0] for seconds in result.epoch_seconds]


def later(result: Result) -> list[float]:
    """Return the CPU seconds of an epoch after the first: a cached reference costs nothing any more."""
    return result.epoch_seconds


@dataclass(frozen=True)
class Spread:
    """Median and range of some numbers."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def spread(values: Sequence[float]) -> Spread:
    """Return median, smallest and largest.

    >>> print(spread([3.0, 1.0, 2.0]))
    2.00 [1.00, 3.00]
    """
    return Spread(statistics.median(values), min(values), max(values))


def ratio(slower: Spread, faster: Spread) -> Spread:
    """Return how many times slower one is: of the medians, and the extremes that the ranges allow.

    >>> print(ratio(Spread(8.0, 6.0, 9.0), Spread(2.0, 1.5, 3.0)))
    4.00 [2.00, 6.00]
    """
    return Spread(slower.median / faster.median, slower.low / faster.high, slower.high / faster.low)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What all runs of one contestant come to; seconds are CPU seconds for 16 pairs."""

    excluding: Spread
    including: Spread
    later: Spread
    peak_rss_mb: float
    gflop_per_pair: float
    """Without the reference."""
    gemm_share: float
    """Operations per second without the reference, by those of a plain matrix product."""


def figures(results: Sequence[Result], gemm: float) -> Figures:
    """Return the figures of one contestant.

    Args:
        results: of all rounds.
        gemm: GFLOP per CPU second of a matrix product in the same run.
    """
    without = spread([seconds for result in results for seconds in excluding(result)])
    operations = flops.training(results[0])
    return Figures(
        excluding=without,
        including=spread([seconds for result in results for seconds in including(result)]),
        later=spread([seconds for result in results for seconds in later(result)]),
        peak_rss_mb=max(result.peak_rss_mb for result in results),
        gflop_per_pair=operations / len(task.LENGTHS),
        gemm_share=operations / without.median / gemm,
    )


TARGETS: dict[tuple[str, str], dict[str, float]] = {
    ("none", "fp32"): {"TRL defaults": 8.0, "TRL best": 3.3, "ms-swift best": 1.75},
    ("lora", "fp32"): {"TRL defaults": 10.0, "TRL best": 3.5, "ms-swift best": 1.85},
    ("none", "bf16-mixed"): {"TRL defaults": 9.0, "TRL best": 4.5},
}
"""By adapter and precision: how many times fewer seconds ours is to need, reference included. bf16: where there is AMX."""
LATER_TARGETS = {("none", "fp32"): {"ms-swift best": 2.3}}
"""The same from the second epoch on."""
LIGHTNING_TARGET = 0.02
"""Largest share that Lightning may add to a plain loop."""


def verdicts(made: Mapping[str, Figures], adapter: str, precision: str, *, amx: bool) -> list[str]:
    """Return one line per target whose contestants both ran: what is to be reached, what was.

    Args:
        amx: whether the processor multiplies bf16 tiles; without it the targets of bf16 do not apply.
    """
    lines, ours = [], made["ours"]
    foreign = " (it is for processors with AMX, which this one lacks)" if precision == "bf16-mixed" and not amx else ""
    for targets, kind, what in (
        (TARGETS.get((adapter, precision), {}), "including", "reference included"),
        (LATER_TARGETS.get((adapter, precision), {}), "later", "from the second epoch on"),
    ):
        for name, target in targets.items():
            if name in made:
                found = ratio(getattr(made[name], kind), getattr(ours, kind))
                word = "reached" if found.median >= target else "missed"
                lines.append(f"{name}, {what}: {found.median:.2f}x, target {target:g}x{foreign}, {word}")
    if "ours without Lightning" in made:
        share = ours.excluding.median / made["ours without Lightning"].excluding.median - 1
        word = "reached" if share < LIGHTNING_TARGET else "missed"
        lines.append(f"Lightning adds {100 * share:.1f} %, target below {100 * LIGHTNING_TARGET:g} %, {word}")
    return lines
