"""What was measured of several models, figure by figure: values with intervals, paired comparisons, tables by category."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpo_lab.amounts import count_of
from dpo_lab.evaluation.context import Measured
from dpo_lab.evaluation.statistics import Comparison, Estimate, Observed, compare_all, mean_of, share_of
from dpo_lab.figures import Figure
from dpo_lab.pipeline.measuring import OfPart

Ends = tuple[float, float | None, float | None]
"""A value and the ends of its interval."""


@dataclass(frozen=True, kw_only=True)
class ComparedFigure:
    """One figure of the models that have it."""

    figure: Figure
    values: Mapping[str, Ends]
    comparisons: tuple[Comparison, ...]
    left_out: int = 0
    """Prompts that not every model was measured on: they are in the values, and in no comparison."""

    def record(self) -> dict[str, Any]:
        """Return it as plain data, for report.json."""
        return {
            "name": self.figure.name,
            "title": self.figure.title,
            "unit": self.figure.unit,
            "better": self.figure.better,
            "headline": self.figure.headline,
            "values": {name: dict(zip(("value", "low", "high"), ends, strict=True)) for name, ends in self.values.items()},
            "comparisons": [comparison.record() for comparison in self.comparisons],
            "prompts_left_out": self.left_out,
        }


def compared_figures(found: OfPart, against: str | None) -> list[ComparedFigure]:
    """Return every figure of a part, the main one first and details last.

    Args:
        against: the model that each other one is compared with; None: every pair.
    """
    order = sorted(found.figures, key=lambda figure: (not figure.main, not figure.headline))
    compared = [compared_figure(figure, found.measured, against) for figure in order]
    return [comparison for comparison in compared if comparison.values]


def compared_figure(figure: Figure, measured: Mapping[str, Measured], against: str | None) -> ComparedFigure:
    """Return one figure of the models that have it, compared on the prompts that all of them were measured on."""
    name = figure.name
    having = {model: each.figures for model, each in measured.items() if name in each.figures}
    values = {model: (each[name], each.get(f"{name}/low"), each.get(f"{name}/high")) for model, each in having.items()}
    observed = {model: measured[model].observed[name] for model in having if name in measured[model].observed}
    shared = set.intersection(*(set(each.prompts) for each in observed.values())) if len(observed) > 1 else set()
    every = set[Any]().union(*(each.prompts for each in observed.values())) if shared else set()
    if not shared or (against is not None and against not in observed):
        return ComparedFigure(figure=figure, values=values, comparisons=())
    same = {model: among(each, shared) for model, each in observed.items()}
    found = compare_all(same, against=against, better=figure.better)
    return ComparedFigure(figure=figure, values=values, comparisons=tuple(found), left_out=len(every - shared))


def among(observed: Observed, prompts: set[Any]) -> Observed:
    """Return what was observed of some prompts, at least one of which is there.

    >>> among(Observed([1.0, 2.0, 3.0], ["a", "b", "a"]), {"a"}).values
    [1.0, 3.0]
    """
    if prompts.issuperset(observed.prompts):
        return observed
    at = [place for place, prompt in enumerate(observed.prompts) if prompt in prompts]
    counts = None if observed.counts is None else [float(observed.counts[place]) for place in at]
    return Observed([float(observed.values[place]) for place in at], [str(observed.prompts[place]) for place in at], counts)


def by_category(
    categories: Mapping[str, str], measured: Mapping[str, Measured], figures: Sequence[ComparedFigure]
) -> list[dict[str, Any]]:
    """Return, for every category in the order of its size, how many prompts it has and the headline figures of each model there.

    An interval stands where it means something: not for one prompt, nor for prompts that all say the same.

    Args:
        categories: of each prompt by its id.
        measured: by the model's name.
    """
    members: dict[str, set[str]] = {}
    for prompt, category in categories.items():
        members.setdefault(category, set()).add(prompt)
    seen = {str(prompt) for each in measured.values() for one in each.observed.values() for prompt in one.prompts}
    sized = sorted(((len(prompts & seen), name) for name, prompts in members.items()), key=lambda each: (-each[0], each[1]))
    shown = [each.figure for each in figures if each.figure.headline or each.figure.interval]
    return [
        {
            "category": name,
            "prompts": count,
            "figures": {figure.name: values for figure in shown if (values := _in_category(figure, measured, members[name]))},
        }
        for count, name in sized
        if count
    ]


def _in_category(figure: Figure, measured: Mapping[str, Measured], prompts: set[str]) -> dict[str, dict[str, float | None]]:
    values = {}
    for model, each in measured.items():
        observed = each.observed.get(figure.name)
        if observed is not None and not prompts.isdisjoint(observed.prompts):
            estimate = estimated(figure, among(observed, prompts))
            values[model] = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return values


def estimated(figure: Figure, observed: Observed) -> Estimate:
    """Return a mean, or a share of outcomes from 0 to 1, with its interval."""
    numbers = np.asarray(observed.values, dtype=float)
    is_share = figure.unit == "share" and observed.counts is None and bool(((numbers >= 0) & (numbers <= 1)).all())
    return (share_of if is_share else mean_of)(observed)


def verdict_lines(part: str, figure: Figure, measured: Mapping[str, Measured]) -> list[dict[str, Any]]:
    """Return a line per prompt with the mean of each model that has the figure, for verdicts.jsonl."""
    means = {}
    for model, each in measured.items():
        if figure.name in each.observed:
            grouped = each.observed[figure.name].by_prompt
            means[model] = dict(zip(grouped.prompts, (grouped.sums / grouped.counts).tolist(), strict=True))
    prompts = dict.fromkeys(prompt for mean in means.values() for prompt in mean)
    return [
        {
            "part": part,
            "figure": figure.name,
            "prompt_id": prompt,
            **{model: each[prompt] for model, each in means.items() if prompt in each},
        }
        for prompt in prompts
    ]


def left_out_line(figures: Sequence[ComparedFigure]) -> list[str]:
    """Return one line where models could not all be measured on the same prompts."""
    most = max((figure.left_out for figure in figures), default=0)
    return [f"{count_of(most, 'prompt')} not measured for every model: in no comparison"] if most else []
