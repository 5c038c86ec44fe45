"""Held-out figures of the policy every so many steps of its training: when they are measured, and where they are kept."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from dpo_lab.amounts import short
from dpo_lab.figures import Figure
from dpo_lab.loggers.metrics_file import MetricsFile
from dpo_lab.progress import say
from dpo_lab.run_directory import EVALUATIONS
from dpo_lab.training.group import Group


@dataclass(frozen=True)
class MeasuredPolicy:
    """What was found out about a policy at one step."""

    figures: Mapping[str, float]
    """By name; with an interval also NAME/low and NAME/high."""
    samples: Sequence[Mapping[str, str]] = ()
    """Texts: a prompt, the answer of the policy and that of its reference."""


@dataclass(frozen=True, kw_only=True)
class Evaluations:
    """What is measured of a policy while it is trained, and how often."""

    every: int
    """Optimizer steps between two times; also after the last step."""
    figures: tuple[Figure, ...]
    """That the measure named."""
    measure: Callable[[nn.Module], MeasuredPolicy] | None
    """Measures the policy; None in processes beside the first, which hear the figures from it."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the figures that rows may have."""
        return tuple(figure.name for figure in self.figures)

    def due(self, step: int, total: int) -> bool:
        """Return whether the policy is measured after a step.

        >>> plan = Evaluations(every=4, figures=(), measure=None)
        >>> [step for step in range(11) if plan.due(step, 10)]
        [4, 8, 10]
        """
        return step > 0 and (step % self.every == 0 or step == total)

    def without_measure(self) -> "Evaluations":
        """Return the same for a process that does not measure."""
        return replace(self, measure=None)


class Evaluator:
    """Measures a policy that is being trained and keeps what was found in evaluations.jsonl beside the metrics.

    No random number of training is drawn for it, so that the weights are those of a training without it.
    """

    def __init__(self, plan: Evaluations, directory: Path, group: Group) -> None:
        self.plan, self.group = plan, group
        self.file = MetricsFile(directory / EVALUATIONS) if group.rank == 0 else None

    def measured(
        self, policy: nn.Module, step: int, number_format: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> dict[str, float]:
        """Return the figures of a policy after a step, the same in all processes; the first one measures, keeps and shows them.

        Args:
            number_format: the context of training's forward passes.
        """
        row: dict[str, float] = {}
        if self.file:
            assert self.plan.measure, "the first process measures"
            began = time.monotonic()
            with number_format():
                found = self.plan.measure(policy)
            seconds = round(time.monotonic() - began, 3)
            row = {name: float(found.figures[name]) for name in self.plan.names if name in found.figures}
            kept = {"figures": dict(found.figures), "samples": [dict(sample) for sample in found.samples]}
            self.file.write({"step": step, "seconds": seconds, **kept})
            say(f"  after step {step}  {line_of(self.plan.figures, row)}")
        return self.group.gathered(row)[0]


def line_of(figures: Sequence[Figure], row: Mapping[str, float]) -> str:
    """Return the figures that the screen shows, in one line.

    >>> line_of([Figure(name="eval/loss", title="loss, held-out pairs", row="loss")], {"eval/loss": 0.512, "eval/pairs": 4})
    'held out: loss .51'
    """
    shown = [figure for figure in figures if figure.headline and figure.name in row]
    return "held out: " + ", ".join(f"{figure.row or figure.title} {short(row[figure.name], figure.digits)}" for figure in shown)
