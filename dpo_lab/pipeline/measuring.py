"""Models measured one after the other, on sets of held-out pairs and on prompts: each measurement is an artifact, found again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from dpo_lab.artifacts import Artifact
from dpo_lab.evaluation.base import Setting
from dpo_lab.evaluation.context import Context, HeldOut, Measured
from dpo_lab.figures import Figure
from dpo_lab.layouts.base import Layout
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.memory.host import give_back
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.models.precision import Precision
from dpo_lab.pipeline.evaluated_models import Evaluated
from dpo_lab.pipeline.evaluated_parts import Part
from dpo_lab.pipeline.evaluation import evaluate, measured_in
from dpo_lab.pipeline.tokens import pairs_in, token_store
from dpo_lab.progress import say
from dpo_lab.reference.base import Reference


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """How models are measured."""

    loss: PreferenceLoss
    reference: Reference
    layout: Layout
    precision: Precision
    device: torch.device
    seed: int
    outputs: Path
    force: bool = False

    @property
    def setting(self) -> Setting:
        """What decides which figures there are."""
        return Setting(loss=self.loss, reference=self.reference, last_reference=True)


@dataclass(frozen=True, kw_only=True)
class OfPart:
    """What was found out about each model on one part."""

    part: Part
    figures: Sequence[Figure]
    measured: Mapping[str, Measured]
    """By the model's name, in order."""
    made: Mapping[str, Artifact] = field(default_factory=dict)


def measure_all(measuring: Measuring, parts: Sequence[Part], models: Sequence[Evaluated]) -> list[OfPart]:
    """Return what is found out about every model on every part; what was measured before is found again.

    On pairs, a model that was not asked for would be compared with itself, so it is left out there.
    """
    found = []
    for part in parts:
        figures = part.measure.figures(measuring.setting)
        of_part = [model for model in models if part.data is None or not model.is_start]
        made = {model.name: measure_one(measuring, part, figures, model) for model in of_part}
        found.append(
            OfPart(part=part, figures=figures, measured={name: measured_in(each) for name, each in made.items()}, made=made)
        )
    return found


def measure_one(measuring: Measuring, part: Part, figures: Sequence[Figure], model: Evaluated) -> Artifact:
    """Return the measurement of one model on one part; where that is needed, what it was trained from is measured first."""
    name, before = name_on(part, model.policy), model.before or model.policy
    context = Context(
        policy=model.policy,
        before=before,
        reference=model.reference,
        held_out=held_out_of(measuring, part, model, name),
        layout=measuring.layout,
        precision=measuring.precision,
        device=measuring.device,
        seed=measuring.seed,
        outputs=measuring.outputs,
        name=name,
    )
    measured_before = None
    if model.is_trained and any(figure.before == "measured" for figure in figures):
        start = replace(context, policy=before, reference=None, name=name_on(part, before))
        measured_before = evaluate(part.measure, figures, start, force=measuring.force)
    try:
        return evaluate(part.measure, figures, context, measured_before, force=measuring.force)
    finally:
        give_back()


def name_on(part: Part, model: ModelOnDisk) -> str:
    """Return the name of a measurement, the same whether a model is asked for or others were trained from it."""
    return f"{Path(model.path).name}-on-{part.name}"


def held_out_of(measuring: Measuring, part: Part, model: Evaluated, name: str) -> HeldOut | None:
    """Return the pairs of a part as a model reads them, None for a part of prompts."""
    if part.data is None:
        return None
    base, where = model.before or model.policy, dict[str, Any](root=measuring.outputs, name=name)
    store, made = token_store(part.pairs, part.data, base, **where, force=measuring.force)
    kept = pairs_in(part.pairs, made)
    if len(kept) != store.num_items:  # made before it was kept which were left out
        store, made = token_store(part.pairs, part.data, base, **where, force=True)
        kept = pairs_in(part.pairs, made)
    say(*(f"  {model.name}: {part.located(note)}" for note in made.facts["notes"]))
    return HeldOut(
        store=store,
        loss=measuring.loss,
        reference=measuring.reference,
        reference_model=base,
        name=name_on(part, base),
        prompt_ids=[pair.prompt.id for pair in kept],
    )
