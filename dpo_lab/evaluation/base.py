"""The role of an evaluation."""

from typing import ClassVar

from dpo_lab.components import Component
from dpo_lab.data.base import Prompts


class Evaluation(Component):
    """What a policy is measured by."""

    on_pairs: ClassVar[bool]
    """True if it needs held-out pairs, False if it samples answers to held-out prompts."""

    @property
    def asks(self) -> Prompts | None:
        """The prompts whose held-out part is answered, None if no answers are sampled."""
        return None
