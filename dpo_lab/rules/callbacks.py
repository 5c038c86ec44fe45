"""Callbacks that do not go together with the training."""

from collections.abc import Mapping

from dpo_lab.training.callbacks import RunCallback
from dpo_lab.training.settings import TrainerSettings


def callback_of_more_steps_than_are_taken(callbacks: Mapping[str, RunCallback], trainer: TrainerSettings) -> str | None:
    """A profile passes over the first steps, so that a shorter training would record nothing."""
    for key, callback in callbacks.items():
        if trainer.max_steps and trainer.max_steps < callback.needs_steps:
            return (
                f"callbacks.{key} needs {callback.needs_steps} optimizer steps, and trainer.max_steps={trainer.max_steps}; "
                f"use trainer.max_steps={callback.needs_steps}, or set callbacks.{key} for fewer."
            )
    return None


RULES = (callback_of_more_steps_than_are_taken,)
