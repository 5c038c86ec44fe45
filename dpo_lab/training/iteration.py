"""Rounds of getting pairs and training on them."""

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
