"""Which figures the summary of a run will have, known before it runs, and the one by which runs are compared."""

import difflib
from typing import Any

from dpo_lab.data.base import Data
from dpo_lab.evaluation.base import Evaluation
from dpo_lab.evaluation.compared import compared_losses
from dpo_lab.evaluation.generation import GenerationEvaluation
from dpo_lab.evaluation.preference import PreferenceEvaluation
from dpo_lab.figures import OF_PAIRS
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.reference.base import Reference
from dpo_lab.training.iteration import Iteration

LOSSES = "eval/losses/"


def optimized_metric(stage: Any) -> str:
    """Return the figure of summary.json by which a run is compared with others; empty if it has none."""
    parts = (stage.evaluation, stage.data, stage.iteration, stage.reference, stage.loss)
    return getattr(stage, "optimized_metric", "") or next(iter(summary_figures(*parts)), "")


def summary_figures(
    evaluation: Evaluation, data: Data, iteration: Iteration, reference: Reference, loss: PreferenceLoss
) -> list[str]:
    """Return the figures that a run's summary will have, the main one first; empty if nothing is evaluated.

    A compared loss that reads labels is among them, though only the data will tell whether every pair has some.
    """
    if isinstance(evaluation, GenerationEvaluation):
        judge = evaluation.judge.label
        rounds = range(1, iteration.rounds + 1)
        details = ["well_formed/before", "well_formed/after"] if evaluation.judge.topic else []
        return [
            *(f"{judge}/after", f"{judge}/before", "win_rate", "win_rate/low", "win_rate/high", "kl"),
            *details,
            *(f"{figure}/round_{number}" for figure in (judge, "win_rate", "kl") for number in rounds),
        ]
    if not isinstance(evaluation, PreferenceEvaluation) or not data.holds_out:
        return []
    compares = reference.compares
    before = ["eval/loss/before"] if compares and not loss.needs_full_softmax else []
    of_pairs = [each.name for each in OF_PAIRS if each.name != "loss"]  # which has names of its own
    return [
        *("eval/accuracy", "eval/accuracy/low", "eval/accuracy/high", "eval/loss", *before, "eval/margin", "eval/pairs"),
        *(f"eval/{name}" for name in of_pairs),
        *(f"{LOSSES}{name}" for name in compared_losses(loss, has_reference=compares)),
    ]


def figure_that_the_summary_will_not_have(
    optimized_metric: str, evaluation: Evaluation, data: Data, iteration: Iteration, reference: Reference, loss: PreferenceLoss
) -> str | None:
    """A search that reads a figure which is not there finds out after its first run."""
    figures = summary_figures(evaluation, data, iteration, reference, loss)
    if not optimized_metric or optimized_metric in figures:
        return None
    if not figures:
        return f"optimized_metric={optimized_metric}: nothing is held out, so the run will have no figures; use data.held_out=N."
    near = difflib.get_close_matches(optimized_metric, figures, n=1)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    listed = [name for name in figures if not name.startswith(LOSSES)]
    losses = f", {LOSSES}NAME of a loss" if len(listed) < len(figures) else ""
    return f"optimized_metric={optimized_metric}: this run's summary will not have it.{meant} Valid: {', '.join(listed)}{losses}."


RULES = (figure_that_the_summary_will_not_have,)
