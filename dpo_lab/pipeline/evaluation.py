"""Evaluation of one policy, kept on disk and found again."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dpo_lab.alignment import Alignment
from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.components import plain
from dpo_lab.continuing import remove_kept
from dpo_lab.evaluation.compared import compared_losses
from dpo_lab.evaluation.generation import GenerationEvaluation
from dpo_lab.evaluation.preference import PreferenceEvaluation
from dpo_lab.models.load import ModelOnDisk, evaluating
from dpo_lab.records import Candidates, read_jsonl, write_jsonl
from dpo_lab.reference.base import ReferenceModel
from dpo_lab.scoring.fitting import fitted, made_ready
from dpo_lab.tokens.store import COLUMNS, TokenStore

ANSWERS = "answers.jsonl"


def evaluate_answers(
    alignment: Alignment,
    evaluation: GenerationEvaluation,
    policy: ModelOnDisk,
    before: ModelOnDisk,
    before_made: Artifact | None,
    name: str,
    *,
    force: bool = False,
) -> Artifact:
    """Judge a policy's answers to the held-out prompts; with `before_made`, compare them with the model's before.

    The facts of the artifact are the figures; answers.jsonl holds the answers with their scores.
    """
    content = {
        "policy": policy.id,
        "before": before_made.id if before_made else None,
        "evaluation": evaluation.content(),
        "seed": alignment.seed,
    }
    plan = Plan(alignment.outputs, "evaluation", name, content, parents=[policy.id, before.id])

    def produce(directory: Path) -> dict[str, Any]:
        device = alignment.trainer.device()
        answers = evaluation.answers(policy, device, alignment.seed, "after" if before_made else "before", directory)
        write_jsonl(directory / ANSWERS, (each.to_record() for each in answers.candidates))
        figures = evaluation.figures(answers)
        if before_made:
            others = read_answers(before_made)
            with policy.lent(device) as after, before.lent(device) as other:
                figures |= evaluation.comparison(after, other, answers, others, alignment.layout, directory)
        remove_kept(directory)
        return figures

    return plan.make(produce, force=force, resume=True)


def read_answers(artifact: Artifact) -> list[Candidates]:
    """Return the judged answers of an evaluation."""
    return [Candidates.from_record(record) for record in read_jsonl(artifact.path / ANSWERS)]


def evaluate_pairs(
    alignment: Alignment,
    evaluation: PreferenceEvaluation,
    policy: ModelOnDisk,
    reference: ModelOnDisk,
    store: TokenStore,
    name: str,
    *,
    force: bool = False,
) -> Artifact:
    """Measure a policy against its reference on the pairs of a held-out store; the artifact's facts are the figures."""
    content = {
        "policy": policy.id,
        "reference": reference.id,
        "tokens": store.fingerprint(),
        "labels": [store.label_digest(name) for name in COLUMNS],  # compared losses read them, whatever the run's own does
        "compared": plain(compared_losses(alignment.loss, has_reference=alignment.reference.compares)),
        "evaluation": evaluation.content(),
        "loss": alignment.loss.content(),
    }
    plan = Plan(alignment.outputs, "evaluation", name, content, parents=[policy.id, reference.id])

    def produce(directory: Path) -> dict[str, Any]:
        device = alignment.trainer.device()
        with ExitStack() as models:
            model = models.enter_context(policy.lent(device)).model
            fit = fitted(model, alignment.layout, store)
            frozen = ReferenceModel(
                Path(reference.path), lambda: made_ready(models.enter_context(reference.lent(device)).model, fit, store)
            )
            with alignment.precision.autocast(device), evaluating(model):
                scorer, _ = alignment.reference.scorer(frozen, store, fit, root=alignment.outputs, name=f"{name}-held-out")
                scorer.follow(model)
                figures = evaluation.figures(model, scorer, alignment.loss, store, fit, directory)
        remove_kept(directory)
        return figures

    return plan.make(produce, force=force, resume=True)
