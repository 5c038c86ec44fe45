"""Findings about a run are said where people look: on the screen and by loggers, while each round trains and at its end."""

from collections.abc import Mapping, Sequence
from typing import Any

from dpo_lab.artifacts import Artifact
from dpo_lab.pipeline.run_state import RunState
from dpo_lab.report.health import finding_text, warning_of


def look_at(state: RunState, row: Mapping[str, Any]) -> None:
    """Look for what goes wrong in a row of metrics.jsonl that is new, with those before it, and say it."""
    before = state.measurements.before
    for finding in state.health.look(row, before.facts if before else {}):
        state.screen.say(f"  step {row['step']}: {finding_text(finding.record())}")
        state.recorder.warn(*warning_of(finding.record()))


def end_round(state: RunState) -> None:
    """Note what is wrong with a round that has been measured, and have loggers warn of what they have not heard."""
    before, after = state.measurements.before, state.measurements.after
    for finding in state.health.end_round(before.facts if before else {}, after.facts if after else {}):
        state.recorder.warn(*warning_of(finding.record()))


def same_tokens(lineage: Sequence[Artifact]) -> int:
    """Return how many pairs of the newest token store of training were left out because both sides are the same tokens."""
    stores = [made for made in lineage if made.manifest["kind"] == "tokens" and "held-out" not in made.path.name]
    return int(stores[-1].facts.get("same_tokens", 0))
