"""Is the best run best: configurations by their mean over seeds, and which of the others can be told apart from the first."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np

from dpo_lab.comparison.metric import Metric
from dpo_lab.comparison.runs import Run
from dpo_lab.evaluation.statistics import Difference, Observed, difference_of, holm
from dpo_lab.evaluation.statistics.paired import LEVEL
from dpo_lab.evaluation.statistics.students_t import two_sided_p

OF_ONE_LOSS = ("eval/loss", "eval/margin")
"""Figures that mean another thing for another loss, or another strength of it."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Runs that differ in their seeds alone."""

    values: Mapping[str, Any]
    runs: tuple[Run, ...]
    """The finished ones that have the figure, the best first."""
    scores: tuple[float, ...]
    """Of these runs."""

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return fmean(self.scores)

    @property
    def spread(self) -> float | None:
        """The standard deviation over seeds, None of a single one."""
        return stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def name(self) -> str:
        """What it sets, in words; of runs that differ in nothing the name of the first."""
        return " ".join(f"{key}={value}" for key, value in self.values.items()) or self.runs[0].name

    def observed(self, name: str) -> Observed | None:
        """Return what was observed of all its runs together, the prompt as the unit; None if of one run nothing was kept."""
        found = [each for run in self.runs if (each := run.observed(name))]
        if len(found) < len(self.runs):
            return None
        values = np.concatenate([np.asarray(observed.values, dtype=float) for observed in found])
        prompts = [prompt for observed in found for prompt in observed.prompts]
        if all(observed.counts is None for observed in found):
            return Observed(values, prompts)
        counts = [
            np.ones(len(observed.values)) if observed.counts is None else np.asarray(observed.counts, dtype=float)
            for observed in found
        ]
        return Observed(values, prompts, np.concatenate(counts))


@dataclass(frozen=True, kw_only=True)
class Against:
    """The best configuration beside another one."""

    other: Configuration
    difference: Difference | None
    """Best minus other, on the prompts of both; None where nothing of single prompts was kept."""
    why_none: str = ""
    p_seeds: float | None = None
    """Of no difference, by the spread over seeds; None where no configuration has two."""
    p_adjusted: float = 1.0
    """The larger of both p-values, by Holm over all comparisons with the best."""
    family: int = 1

    @property
    def told_apart(self) -> bool:
        """Return whether the difference is more than chance, of prompts and of seeds."""
        return self.p_adjusted < LEVEL

    @property
    def more_prompts(self) -> int | None:
        """Return how many more held-out prompts it takes to tell the two apart; None if they are, or if prompts suffice."""
        if self.told_apart or self.difference is None or self.difference.p_value < LEVEL / self.family:
            return None
        return self.difference.more_prompts(LEVEL / self.family)

    @property
    def lacks_seeds(self) -> bool:
        """Return whether seeds differ so much that no number of prompts would tell the two apart."""
        return not self.told_apart and self.p_seeds is not None and self.p_seeds >= LEVEL / self.family


@dataclass(frozen=True, kw_only=True)
class Standing:
    """All configurations in their order, and the first one beside the others."""

    metric: Metric
    configurations: tuple[Configuration, ...]
    against: tuple[Against, ...]
    """In the order of the other configurations."""
    several_seeds: bool
    """Whether some configuration has runs of several seeds."""

    @property
    def best(self) -> Configuration | None:
        """The first one, None without a finished run or if the figure gets better in no direction."""
        return self.configurations[0] if self.configurations and self.metric.better else None

    @property
    def winner(self) -> Configuration | None:
        """The first one, if it is told apart from every other one; None else."""
        return self.best if self.against and all(each.told_apart for each in self.against) else None


def standing(runs: Sequence[Run], metric: Metric) -> Standing:
    """Return how runs stand by a figure.

    The unit of a difference is the prompt, and what was observed of several seeds is taken together. Where some configuration has
    several seeds, a difference has to exceed what they explain too: Student's t with the standard deviation pooled over all
    configurations. Holm's correction is over the comparisons of the best with each other one.
    """
    groups: dict[tuple[tuple[str, Any], ...], dict[Any, Run]] = {}
    for run in runs:
        if metric.of(run) is not None:
            groups.setdefault(run.setting, {}).setdefault(run.directory or run.name, run)
    found = [_configuration(list(group.values()), metric) for group in groups.values()]
    ordered = sorted(found, key=lambda each: (metric.rank(each.mean), each.name))
    several = any(len(configuration.runs) > 1 for configuration in ordered)
    if len(ordered) < 2 or metric.better is None:
        return Standing(metric=metric, configurations=tuple(ordered), against=(), several_seeds=several)
    compared = [_against(ordered[0], other, metric, pooled(ordered)) for other in ordered[1:]]
    p_values = [max(each.difference.p_value if each.difference else 1.0, each.p_seeds or 0.0) for each in compared]
    adjusted = holm(p_values)
    against = [
        Against(
            other=each.other,
            difference=each.difference,
            why_none=each.why_none,
            p_seeds=each.p_seeds,
            p_adjusted=p,
            family=len(compared),
        )
        for each, p in zip(compared, adjusted, strict=True)
    ]
    return Standing(metric=metric, configurations=tuple(ordered), against=tuple(against), several_seeds=several)


def _configuration(runs: Sequence[Run], metric: Metric) -> Configuration:
    ordered = sorted(runs, key=lambda run: metric.rank(metric.of(run) or 0.0))
    scores = tuple(score for run in ordered if (score := metric.of(run)) is not None)
    return Configuration(values=dict(ordered[0].setting), runs=tuple(ordered), scores=scores)


def pooled(configurations: Sequence[Configuration]) -> tuple[float, int] | None:
    """Return the standard deviation over seeds of all configurations together, with its degrees of freedom; None without any."""
    degrees = sum(len(configuration.scores) - 1 for configuration in configurations)
    if not degrees:
        return None
    squares = sum((score - configuration.mean) ** 2 for configuration in configurations for score in configuration.scores)
    return math.sqrt(squares / degrees), degrees


def _against(best: Configuration, other: Configuration, metric: Metric, seeds: tuple[float, int] | None) -> Against:
    p_seeds = _p_of_seeds(best, other, seeds) if seeds else None
    name = metric.figure.name if metric.figure and metric.has_observations else ""
    ours, theirs = (side.observed(name) if name else None for side in (best, other))
    if ours is None or theirs is None:
        why = f"nothing of single prompts is kept for {metric.key}"
        return Against(other=other, difference=None, why_none=why, p_seeds=p_seeds)
    if name in OF_ONE_LOSS and len({str(run.record.config.get("loss")) for run in (*best.runs, *other.runs)}) > 1:
        return Against(other=other, difference=None, why_none=f"{name} means another thing for another loss", p_seeds=p_seeds)
    try:
        return Against(other=other, difference=difference_of(ours, theirs), p_seeds=p_seeds)
    except ValueError:
        return Against(other=other, difference=None, why_none="measured on other held-out prompts", p_seeds=p_seeds)


def _p_of_seeds(best: Configuration, other: Configuration, seeds: tuple[float, int]) -> float:
    spread, degrees = seeds
    error = spread * math.sqrt(1 / len(best.scores) + 1 / len(other.scores))
    difference = best.mean - other.mean
    return two_sided_p(difference / error, degrees) if error else float(difference == 0)
