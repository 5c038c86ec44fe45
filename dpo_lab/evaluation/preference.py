"""Evaluation on held-out pairs: evaluation=preference."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from dpo_lab.components import component
from dpo_lab.evaluation.agreement import agreement, agreement_figures, too_few
from dpo_lab.evaluation.base import Measure, Setting
from dpo_lab.evaluation.context import Context, Measured
from dpo_lab.evaluation.credit import token_credit
from dpo_lab.figures import Figure


@component
class PreferenceEvaluation(Measure):
    """Held-out loss, accuracy (ties count as wrong) and margin, with the accuracy's 95 % interval; other losses for free."""

    on_pairs: ClassVar[bool] = True

    def figures(self, setting: Setting) -> list[Figure]:
        """Return loss, accuracy, margin, and what else is a mean over pairs."""
        return agreement_figures(setting.loss, has_reference=setting.reference.compares)

    def measure(self, context: Context) -> Measured:
        """Score every held-out response once, by policy and reference."""
        assert context.held_out
        held_out, logps = context.held_out, context.pair_logps()
        compares = held_out.reference.compares
        found = agreement(*logps, held_out.loss, has_reference=compares, prompts=held_out.prompts)
        return replace(found, credit=token_credit(*logps, held_out.store)) if compares else found

    def heading(self, summary: Mapping[str, Any]) -> str:
        """Return how many pairs there are."""
        return f"held-out pairs ({summary['eval/pairs']})"

    def note(self, summary: Mapping[str, Any]) -> str:
        """Return whether the pairs are too few."""
        return too_few(summary)
