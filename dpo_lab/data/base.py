"""The roles of data: pairs that are given, and prompts to make pairs from."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from dpo_lab.components import Component
from dpo_lab.records import PreferencePair, Prompt

Truncation = Literal["keep_end_prompt", "drop", "error"]

Order = Literal["shuffled", "by_prompt", "as_given"]
"""Pairs in random order; prompts in random order, with the pairs of each together; pairs as they are listed."""


class Data(Component):
    """Where preference pairs come from: given, or made by the policy of each round."""

    label: str
    """Name in directories and on the end screen."""
    max_length: int
    """Tokens of prompt and response together."""
    truncation: Truncation
    """What happens to a pair that is longer: see tokens/build.py."""
    order: Order
    """In which order an epoch takes the pairs; by_prompt lets the pairs of a prompt share a step and its computation."""


@dataclass(frozen=True)
class GivenPairs:
    """The pairs of one round, split by prompt."""

    train: list[PreferencePair]
    held_out: list[PreferencePair]
    notes: tuple[str, ...] = ()
    """What reading found, one line per code, for people."""


class Given(Data, ABC):
    """Pairs that exist already."""

    @abstractmethod
    def load(self, rounds: int = 1) -> list[GivenPairs]:
        """Return the pairs of each round, those of some prompts held out; the same ones whatever the seed of the run.

        Data that has pairs for one round returns one; `rules/check.py` refuses more rounds than there are.

        Raises:
            DataError: with file, row, what was found, what happens, what to change.
        """


class Prompts(Component, ABC):
    """Prompts for on-policy pairs and for evaluation."""

    label: ClassVar[str]
    films: ClassVar[bool] = False
    """True for the embedded film prompts, whose answers have an exact reward."""

    @abstractmethod
    def for_round(self, number: int, seed: int) -> list[Prompt]:
        """Return the prompts of a round, counted from 0; different rounds share none."""

    @abstractmethod
    def held_out(self) -> list[Prompt]:
        """Return the prompts that evaluation uses; no round ever trains on them."""

    def examples(self, count: int, seed: int) -> list[tuple[Prompt, str]]:
        """Return (prompt, answer) examples for supervised fine-tuning; empty if there are none."""
        return []
