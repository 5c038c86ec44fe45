"""Which figures the summary of a run will have, known before it runs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dpo_lab.components import RunError
from dpo_lab.data.base import Data
from dpo_lab.evaluation.agreement import LOSSES
from dpo_lab.evaluation.base import Measure, Setting
from dpo_lab.figures import round_keys, summary_keys
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.reference.base import Reference
from dpo_lab.spelling import nearest
from dpo_lab.training.iteration import Iteration


def summary_figures(
    evaluation: Measure, data: Data, iteration: Iteration, reference: Reference, loss: PreferenceLoss
) -> list[str]:
    """Return the figures that a run's summary will have, the main one first; empty if nothing is evaluated."""
    of_data = [key for figure in data.round_figures for key in round_keys(figure, iteration.rounds)]
    if evaluation.on_pairs and not data.holds_out:
        return of_data
    return [*summary_keys(evaluation.figures(Setting.of(loss, reference, data)), iteration.rounds), *of_data]


def compared_figure(asked: str, figures: list[str], summary: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return name and value of the figure by which a finished run is compared with others, None without one.

    Args:
        asked: the figure that was asked for; empty: the main one.
        figures: that the summary was to have.

    Raises:
        RunError: if the summary lacks the one that was asked for.
    """
    name = asked or next(iter(figures), "")
    if name in summary:
        return name, float(summary[name])
    if not asked:
        return None
    known = ", ".join(key for key in summary if not key.startswith("seconds/"))
    raise RunError(
        f"optimized_metric={name}: the run is finished and kept, but its summary has no such figure: its pairs lack the "
        f"labels that it needs, or none are held out. It has: {known}."
    )


def figure_that_the_summary_will_not_have(
    optimized_metric: str, evaluation: Measure, data: Data, iteration: Iteration, reference: Reference, loss: PreferenceLoss
) -> str | None:
    """A search that reads a figure which is not there finds out after its first run."""
    figures = summary_figures(evaluation, data, iteration, reference, loss)
    if not optimized_metric or optimized_metric in figures:
        return None
    if not figures:
        return f"optimized_metric={optimized_metric}: nothing is held out, so the run will have no figures; use data.held_out=N."
    meant = nearest(optimized_metric, figures)
    single = [name for name in figures if not name.endswith(("/low", "/high"))]
    listed = with_rounds_together([name for name in single if not name.startswith(LOSSES)])
    losses = f", {LOSSES}NAME of a loss" if any(name.startswith(LOSSES) for name in single) else ""
    ends = ", and NAME/low and NAME/high of those with an interval" if len(single) < len(figures) else ""
    return (
        f"optimized_metric={optimized_metric}: this run's summary will not have it.{meant} "
        f"Valid: {', '.join(listed)}{losses}{ends}."
    )


def with_rounds_together(names: Sequence[str]) -> list[str]:
    """Return names of figures; those of one figure in several rounds are one.

    >>> with_rounds_together(["kl", "gold/round_1", "gold/round_2", "gold/round_3", "kl/round_1"])
    ['kl', 'gold/round_1 to 3', 'kl/round_1']
    """
    last = dict[str, int]()
    for name in names:
        figure, _, number = name.rpartition("/round_")
        if figure:
            last[figure] = int(number)
    alone = [name for name in names if "/round_" not in name]
    return [*alone, *(f"{figure}/round_1{f' to {number}' if number > 1 else ''}" for figure, number in last.items())]


RULES: tuple[Callable[..., str | None], ...] = (figure_that_the_summary_will_not_have,)
