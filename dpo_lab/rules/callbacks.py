"""Callbacks that do not go together with the training."""

from collections.abc import Callable, Iterable, Mapping

from dpo_lab.data.base import Data
from dpo_lab.evaluation.agreement import LOSSES
from dpo_lab.evaluation.base import Measure, Setting
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.reference.base import Reference
from dpo_lab.spelling import nearest
from dpo_lab.training.callbacks import REPEATABLE, RunCallback
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


def figure_that_no_row_has(
    callbacks: Mapping[str, RunCallback], evaluation: Measure, data: Data, reference: Reference, loss: PreferenceLoss
) -> str | None:
    """A callback reads rows of metrics.jsonl: figures of training, or of held-out data where that is measured meanwhile."""
    held_out = {figure.name: figure.better for figure in evaluation.figures(Setting.of(loss, reference, data))}
    if evaluation.on_pairs and not data.holds_out:
        held_out = {}
    for key, callback in callbacks.items():
        for field, (name, mode) in callback.reads.items():
            asked = f"callbacks.{key}.{field}={name}"
            if name not in REPEATABLE and name not in held_out:
                more = f"; of held-out data, with evaluation.every=N: {', '.join(main_names(held_out))}" if held_out else ""
                meant = nearest(name, [*REPEATABLE, *held_out])
                return f"{asked}: no row of metrics.jsonl will have it.{meant} Valid: {', '.join(REPEATABLE)}{more}."
            if name in held_out and not evaluation.every:
                return f"{asked} is a figure of held-out data, which is measured after training alone; use evaluation.every=10."
            if mode and (better := held_out.get(name)) and mode != better:
                how = f"{name} gets better by {'falling' if better == 'min' else 'growing'}"
                return f"{asked} with callbacks.{key}.mode={mode}: {how}; use callbacks.{key}.mode={better}."
    return None


def main_names(names: Iterable[str]) -> list[str]:
    """Return names of figures without those of losses that the run does not train with."""
    return [name for name in names if not name.startswith(LOSSES)]


RULES: tuple[Callable[..., str | None], ...] = (callback_of_more_steps_than_are_taken, figure_that_no_row_has)
