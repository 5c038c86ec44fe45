"""By which figure a search compares runs, which way it gets better, and which figure can end a run early."""

from dataclasses import dataclass

from dpo_lab.components import ConfigError
from dpo_lab.data.base import Data
from dpo_lab.evaluation.base import Measure, Setting
from dpo_lab.figures import Better, Figure
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.reference.base import Reference
from dpo_lab.rules.figures import summary_figures
from dpo_lab.spelling import nearest
from dpo_lab.training.iteration import Iteration

KEY, SAME = "hydra.sweeper.prune_by", "same"


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What a search looks at."""

    key: str
    """Of summary.json: runs are compared by it."""
    better: Better
    prune_by: str
    """Name of the figure by which runs end early; empty: every run goes to its end."""


def searched(
    optimized_metric: str,
    prune_by: str | None,
    *,
    evaluation: Measure,
    data: Data,
    iteration: Iteration,
    reference: Reference,
    loss: PreferenceLoss,
) -> Searched:
    """Return what a search over runs of these parts looks at.

    Args:
        optimized_metric: a key of the summary; empty: the main one.
        prune_by: name of the figure by which runs end early; `same`: the one that is compared; None: none end early.

    Raises:
        ConfigError: if there is no such figure, it has no direction, or it is known too late to end a run early.
    """
    keys = summary_figures(evaluation, data, iteration, reference, loss)
    if not keys:
        raise ConfigError("a search compares runs by a figure, and this run has none: nothing is held out. Use data.held_out=N.")
    key = optimized_metric or keys[0]
    measured = evaluation.figures(Setting.of(loss, reference, data))
    figure = next(
        (figure for figure in (*measured, *data.round_figures) if key in figure.keys or key.startswith(f"{figure.name}/")), None
    )
    if figure is None or figure.better is None:
        valid = ", ".join(figure.keys[0] for figure in measured if figure.better)
        raise ConfigError(
            f"optimized_metric={key} gets better in no direction, so nothing can be searched by it. Valid: {valid}."
        )
    if not prune_by:
        return Searched(key=key, better=figure.better, prune_by="")
    ending = figure if prune_by == SAME else _named(prune_by, measured)
    if ending.better != figure.better:
        raise ConfigError(
            f"{KEY}={ending.name} and optimized_metric={key} do not get better in the same direction. Use {KEY}={SAME}."
        )
    in_time = ending in measured and (evaluation.every or (ending.each_round and iteration.rounds > 1))
    if not in_time:
        raise ConfigError(
            f"{KEY}={prune_by}: {ending.name} is measured once, after training, so it can end no run early. Add "
            f"evaluation.every=N to measure it every N optimizer steps, or {KEY}=null to run every point to its end."
        )
    return Searched(key=key, better=figure.better, prune_by=ending.name)


def _named(name: str, measured: list[Figure]) -> Figure:
    """Return the figure of a name; ConfigError without one that gets better in some direction."""
    known = [figure.name for figure in measured if figure.better]
    if name not in known:
        raise ConfigError(f"{KEY}={name}: there is no such figure.{nearest(name, known)} Valid: {SAME}, {', '.join(known)}.")
    return next(figure for figure in measured if figure.name == name)
