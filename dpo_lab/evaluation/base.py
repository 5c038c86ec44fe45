"""The role of an evaluation."""

from typing import ClassVar

from dpo_lab.components import Component


class Evaluation(Component):
    """What a policy is measured by."""

    on_pairs: ClassVar[bool]
    """True if it needs held-out pairs, False if it samples answers to held-out prompts."""
