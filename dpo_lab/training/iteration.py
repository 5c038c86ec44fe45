"""Rounds of getting pairs and training on them."""

from collections.abc import Mapping
from typing import Literal

from pydantic import PositiveInt

from dpo_lab.components import Component, component


@component
class Iteration(Component):
    """How often pairs are made and trained on, and what each round starts from."""

    rounds: PositiveInt = 1
    """More than one needs pairs that are made (data=on_policy or films)."""
    start: Literal["previous", "first"] = "previous"
    """Which policy a round's training starts from."""
    reference: Literal["previous", "first"] = "previous"
    """Which policy is a round's frozen reference; `first` is a brake: less reward at less KL."""
    prompts: Literal["disjoint", "same"] = "disjoint"
    """Whether each round samples new prompts."""

    def idle(self) -> Mapping[str, str]:
        """Return what says how a round follows the one before, if there is one round."""
        why = "there is no round before it (iteration.rounds=1)"
        return dict.fromkeys(("start", "reference", "prompts"), why) if self.rounds == 1 else {}
