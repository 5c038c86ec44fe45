"""Callbacks that do not go together with the rest of a stage, or with themselves."""

from collections.abc import Callable

from dpo_lab.alignment import Alignment
from dpo_lab.figures import BETTER
from dpo_lab.training.callbacks import Checkpoint, EarlyStopping, Profile


def early_stopping_that_never_or_always_stops(alignment: Alignment) -> str | None:
    """A figure that is not waited for ends nothing; one that gets better by growing is not waited for to fall."""
    for key, each in alignment.callbacks.items():
        if not isinstance(each, EarlyStopping):
            continue
        where, better = f"callbacks.{key}", BETTER.get(each.metric, each.mode)
        if each.patience is None and each.threshold is None:
            return f"{where}.patience=null and {where}.threshold=null: it would never stop; give one of them a number."
        if each.patience is not None and each.mode != better:
            return (
                f"{where}.mode={each.mode} would end training because it works: {each.metric} gets better by "
                f"{'falling' if better == 'min' else 'growing'}; use {where}.mode={better}."
            )
    return None


def profile_of_more_steps_than_are_taken(alignment: Alignment) -> str | None:
    """Steps are watched after some were passed over."""
    steps = alignment.trainer.max_steps
    for key, each in alignment.callbacks.items():
        if isinstance(each, Profile) and steps and steps < each.steps:
            return (
                f"callbacks.{key} watches wait + warmup + active = {each.steps} steps, and trainer.max_steps={steps}; "
                f"use trainer.max_steps={each.steps}, or fewer of them."
            )
    return None


def best_checkpoint_that_is_the_worst(alignment: Alignment) -> str | None:
    """Kept by the wrong direction, the best of a figure is its worst."""
    for key, each in alignment.callbacks.items():
        better = BETTER.get(each.best) if isinstance(each, Checkpoint) else None
        if isinstance(each, Checkpoint) and better and each.mode != better:
            where = f"callbacks.{key}"
            return f"{where}.best={each.best} with {where}.mode={each.mode} would keep the worst step; use {where}.mode={better}."
    return None


RULES: tuple[Callable[[Alignment], str | None], ...] = (
    early_stopping_that_never_or_always_stops,
    profile_of_more_steps_than_are_taken,
    best_checkpoint_that_is_the_worst,
)
"""Each returns what is wrong and what to use instead, or None."""
