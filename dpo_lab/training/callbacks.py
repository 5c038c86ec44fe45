"""What happens beside the training steps."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from dpo_lab.components import Component, component
from dpo_lab.progress import Part

if TYPE_CHECKING:
    import lightning as L


class RunCallback(Component, ABC):
    """Something that happens beside the training steps."""

    @abstractmethod
    def build(self, part: Part) -> "L.Callback":
        """Return Lightning's callback; `part` is the progress that the person sees."""


@component
class ProgressBar(RunCallback):
    """Steps done and the newest loss, margin and accuracy, on the terminal."""

    def build(self, part: Part) -> "L.Callback":
        """Return the callback that moves the bar."""
        from dpo_lab.training.steps import StepProgress

        return StepProgress(part)
