"""How the policy of a round is measured: while it is trained, where that is asked for, and after its training."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dpo_lab.evaluation.context import HeldOut
from dpo_lab.figures import of_round
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.pipeline.evaluation import measured_in
from dpo_lab.pipeline.ranker import ready
from dpo_lab.pipeline.round import Round
from dpo_lab.pipeline.run_state import RunState
from dpo_lab.pipeline.while_training import WhileTraining, some_prompts
from dpo_lab.records import Prompt
from dpo_lab.tokens.store import TokenStore


def held_out_of(state: RunState, this: Round, store: TokenStore | None) -> HeldOut | None:
    """Return the held-out pairs of a round with what its policy is compared with, None where the measure reads none."""
    alignment = state.alignment
    if store is None or not alignment.evaluation.on_pairs:
        return None
    return HeldOut(
        store=store,
        loss=alignment.loss,
        reference=alignment.reference,
        reference_model=this.reference,
        name=f"{this.name}-held-out",
    )


def while_training(state: RunState, this: Round, store: TokenStore | None, prompts: Sequence[Prompt]) -> WhileTraining | None:
    """Return how the policy of a round is measured while it is trained, None if it is not.

    Args:
        store: the held-out pairs.
        prompts: of those pairs.
    """
    measure, measurements = state.alignment.evaluation, state.measurements
    if not measure.every or (measure.on_pairs and store is None):
        return None
    held_out = held_out_of(state, this, store)
    measurements.before_on(held_out, this.name)
    before, previous = (measured_in(made) if made else None for made in (measurements.before, measurements.after))
    context = replace(
        measurements.context,
        policy=this.start,
        held_out=held_out,
        measured_before=before,
        measured_previous=previous,
        name=f"{this.name}-training",
    )
    ranker = ready(context.ranker, context.outputs)[0] if context.ranker and before else None
    asked = measure.asks
    return WhileTraining(
        measure=measure,
        figures=tuple(measurements.figures),
        context=replace(context, ranker=ranker),
        reference=this.reference,
        prompts=some_prompts(prompts if measure.on_pairs or asked is None else asked.held_out()),
    )


def evaluate_round(state: RunState, this: Round, policy: ModelOnDisk, store: TokenStore | None) -> dict[str, Any]:
    """Measure the policy of a round, note the figures of every round in the summary, and return those for its report."""
    measurements = state.measurements
    if state.alignment.evaluation.on_pairs and store is None:
        return {}
    facts = measurements.of_round(policy, this.name, held_out_of(state, this, store))
    state.summary |= of_round(measurements.figures, facts, this.number)
    return {figure.name: facts[figure.name] for figure in measurements.figures if figure.headline and figure.name in facts}
