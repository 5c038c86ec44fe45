"""What a measure is: it names its figures before a run and measures a policy after it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import PositiveInt

from dpo_lab.components import Component, ConfigError, component
from dpo_lab.data.base import Data, Prompts
from dpo_lab.evaluation.context import Context, Measured
from dpo_lab.figures import Figure
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.reference.base import Reference


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What decides, before a run, which figures a measure will have and what they mean."""

    loss: PreferenceLoss
    reference: Reference
    ranker: Component | None = None
    """That chooses the pairs which are trained on; None for pairs that are given."""
    last_reference: bool = False
    """Whether the reference of a policy's last round is known beside the model before training (`context.reference`)."""

    @classmethod
    def of(cls, loss: PreferenceLoss, reference: Reference, data: Data) -> Self:
        """Return the setting of a training."""
        return cls(loss=loss, reference=reference, ranker=data.ranked_by)


@component
class Measure(Component, ABC):
    """What a policy is measured by: `evaluation=`."""

    on_pairs: ClassVar[bool] = False
    """Whether it reads held-out pairs (`context.held_out`), with loss and reference. Without any, nothing is measured."""

    every: PositiveInt | None = None
    """Optimizer steps of a round between two times that it measures the policy while it is trained, and after the last one; null:
    only after training."""

    def content(self) -> dict[str, Any]:
        """Return what determines the figures: not how often they are measured."""
        return {name: value for name, value in super().content().items() if name != "every"}

    @property
    def asks(self) -> Prompts | None:
        """The prompts whose held-out part is answered, None if no answers are sampled."""
        return None

    @property
    def alone(self) -> "Mapping[str, Measure]":
        """The measures that it is made of, by name: itself, unless it is several."""
        return {"": self}

    def check_slowly(self) -> None:
        """Raise ConfigError if no prompt is held out to be answered."""
        if self.asks and not self.asks.held_out():
            raise ConfigError(
                f"this evaluation answers held-out prompts, and prompts={self.asks.label} holds out none; "
                "use prompts.num_held_out=N with N above 0."
            )

    @abstractmethod
    def figures(self, setting: Setting) -> list[Figure]:
        """Return the figures that `measure` returns, in the order of the screen; loads and reads nothing."""

    @abstractmethod
    def measure(self, context: Context) -> Measured:
        """Return the figures of `context.policy`; a figure that cannot be known is left out.

        Called once for each round, and for the model before training where a figure says `before="measured"`.
        """

    def heading(self, summary: Mapping[str, Any]) -> str:
        """Return what stands above the figures on the screen."""
        return "evaluation"

    def lines(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """Return lines for the screen, below the figures."""
        return ()

    def note(self, summary: Mapping[str, Any]) -> str:
        """Return why the figures cannot tell whether the run worked, empty if they can."""
        return ""
