"""The measurements of a run's policies, kept on disk and found again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.components import RunError
from dpo_lab.continuing import remove_kept
from dpo_lab.evaluation.base import Measure
from dpo_lab.evaluation.context import Context, HeldOut, Measured
from dpo_lab.evaluation.intervals import OBSERVED, observed_in, records_of
from dpo_lab.figures import Figure
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.pipeline.ranker import ready
from dpo_lab.records import Candidates, read_jsonl, write_jsonl

ANSWERS, CREDIT = "answers.jsonl", "credit.jsonl"


@dataclass
class Measurements:
    """What the evaluation of a run has found out so far: about the model before training, and about the newest policy."""

    measure: Measure
    figures: list[Figure]
    """That the measure named."""
    context: Context
    """Of the model before training."""
    lineage: list[Artifact]
    """Of the run; every measurement is added to it."""
    force: bool = False
    before: Artifact | None = None
    """None unless a figure is measured of that model too."""
    after: Artifact | None = None

    def of_base(self) -> None:
        """Measure the model before training, if a figure needs it."""
        if any(figure.before == "measured" for figure in self.figures):
            self.before = self._made(self.context)

    def of_round(self, policy: ModelOnDisk, name: str, held_out: HeldOut | None) -> Mapping[str, Any]:
        """Measure the policy of a round and return its figures; the model before is measured on the same held-out pairs."""
        self.before_on(held_out, name)
        context = replace(self.context, held_out=held_out)
        self.after = self._made(replace(context, policy=policy, name=f"{name}-after"), self.before, self.after)
        return self.after.facts

    def before_on(self, held_out: HeldOut | None, name: str) -> None:
        """Measure the model before training on the held-out pairs of a round, if there are any and a figure needs it."""
        if held_out:
            self.context = replace(self.context, held_out=held_out, name=f"{name}-before")
            self.of_base()

    @property
    def found(self) -> tuple[Measured | None, Measured | None]:
        """What was measured of the model before training and of the newest policy, None where nothing was."""
        before, after = (measured_in(made) if made else None for made in (self.before, self.after))
        return before, after

    def _made(self, context: Context, before: Artifact | None = None, previous: Artifact | None = None) -> Artifact:
        made = evaluate(self.measure, self.figures, context, before, previous, force=self.force)
        self.lineage.append(made)
        return made


def evaluate(
    measure: Measure,
    figures: Sequence[Figure],
    context: Context,
    before: Artifact | None = None,
    previous: Artifact | None = None,
    *,
    force: bool = False,
) -> Artifact:
    """Measure a policy; the facts of the artifact are the figures, answers.jsonl holds the answers with their scores, and
    observed.jsonl what was observed of each answer or pair.

    Args:
        figures: that the measure named.
        before: what the same measure found out about the model before training.
        previous: what it found out about the policy of the round before; None in the first round.

    Raises:
        RunError: if the measure returns a figure that it did not name, or something else than a number.
    """
    content = {
        "policy": context.policy.id,
        "model before": context.before.id,
        "measured before": before.id if before else None,
        **({"measured previous": previous.id} if previous else {}),
        "evaluation": measure.content(),
        **({"reference": context.reference.id} if context.reference else {}),
        "held out": context.held_out.content() if context.held_out else None,
        **({"ranker": context.ranker.content()} if context.ranker and before else {}),
        "seed": context.seed,
        "intervals": "by prompt, and of wins at equal length",
    }
    parents = [context.policy.id, context.before.id]
    parents += [context.held_out.reference_model.id] if context.held_out else []
    parents += [context.reference.id] if context.reference else []
    measure, trained = ready(measure, context.outputs)
    ranker, also = ready(context.ranker, context.outputs) if context.ranker and before else (None, [])
    parents += [artifact.id for artifact in (*trained, *also)]
    plan = Plan(context.outputs, "evaluation", context.name, content, parents=list(dict.fromkeys(parents)))
    earlier, last = (measured_in(artifact) if artifact else None for artifact in (before, previous))
    compared = replace(context, measured_before=earlier, measured_previous=last, ranker=ranker)

    def produce(directory: Path) -> dict[str, Any]:
        measured = measure.measure(compared.inside(directory))
        refuse_unnamed(measured.figures, figures, type(measure).__name__)
        if measured.answers:
            write_jsonl(directory / ANSWERS, (answer.to_record() for answer in measured.answers))
        if measured.observed:
            write_jsonl(directory / OBSERVED, records_of(measured.observed))
        if measured.credit:
            write_jsonl(directory / CREDIT, (dict(row) for row in measured.credit))
        remove_kept(directory)
        return dict(measured.figures)

    return plan.make(produce, force=force, resume=True)


def measured_in(artifact: Artifact) -> Measured:
    """Return what a measurement on disk found out."""
    answers, observed, credit = (artifact.path / name for name in (ANSWERS, OBSERVED, CREDIT))
    return Measured(
        artifact.facts,
        [Candidates.from_record(record) for record in read_jsonl(answers)] if answers.exists() else [],
        observed_in(read_jsonl(observed)) if observed.exists() else {},
        list(read_jsonl(credit)) if credit.exists() else [],
    )


def refuse_unnamed(found: Mapping[str, Any], figures: Iterable[Figure], measure: str) -> None:
    """Raise RunError for a figure that was not named before, or is not a plain number."""
    named = {name for figure in figures for name in figure.measured}
    kept = "The trained policy is kept: correct the class and repeat the command."
    for name, value in found.items():
        if name not in named:
            raise RunError(f"{measure}.measure returned {name!r}, which {measure}.figures did not name. {kept}")
        if not isinstance(value, int | float):
            raise RunError(f"{measure}.measure returned {name} as {type(value).__name__}; use float(value). {kept}")
