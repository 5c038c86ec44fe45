"""Which figures the summary of a run will have, known before it runs, and the one by which runs are compared."""

from dpo_lab.alignment import Alignment
from dpo_lab.evaluation.compared import compared_losses
from dpo_lab.evaluation.generation import GenerationEvaluation
from dpo_lab.evaluation.preference import PreferenceEvaluation
from dpo_lab.figures import OF_PAIRS

LOSSES = "eval/losses/"


def optimized_metric(alignment: Alignment) -> str:
    """Return the figure of summary.json by which a run is compared with others; empty if it has none."""
    return getattr(alignment, "optimized_metric", "") or next(iter(summary_figures(alignment)), "")


def summary_figures(alignment: Alignment) -> list[str]:
    """Return the figures that a run's summary will have, the main one first; empty if nothing is evaluated.

    A compared loss that reads labels is among them, though only the data will tell whether every pair has some.
    """
    evaluation = alignment.evaluation
    if isinstance(evaluation, GenerationEvaluation):
        judge = evaluation.judge.label
        rounds = range(1, alignment.iteration.rounds + 1)
        details = ["well_formed/before", "well_formed/after"] if evaluation.judge.films_only else []
        return [
            *(f"{judge}/after", f"{judge}/before", "win_rate", "win_rate/low", "win_rate/high", "kl"),
            *details,
            *(f"{figure}/round_{number}" for figure in (judge, "win_rate", "kl") for number in rounds),
        ]
    if not isinstance(evaluation, PreferenceEvaluation) or getattr(alignment.data, "held_out", None) == 0:
        return []
    compares = alignment.reference.compares
    before = ["eval/loss/before"] if compares and not alignment.loss.needs_full_softmax else []
    of_pairs = [each.name for each in OF_PAIRS if each.name != "loss"]  # which has names of its own
    return [
        *("eval/accuracy", "eval/accuracy/low", "eval/accuracy/high", "eval/loss", *before, "eval/margin", "eval/pairs"),
        *(f"eval/{name}" for name in of_pairs),
        *(f"{LOSSES}{name}" for name in compared_losses(alignment.loss, has_reference=compares)),
    ]
