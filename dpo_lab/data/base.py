"""The roles of data: pairs that are given or made in each round, and prompts to make pairs from."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from dpo_lab.artifacts import Artifact
from dpo_lab.components import Component, ConfigError
from dpo_lab.figures import Figure
from dpo_lab.records import Candidates, PreferencePair, Prompt

Truncation = Literal["keep_end_prompt", "drop", "error"]

Order = Literal["shuffled", "by_prompt", "as_given"]
"""Pairs in random order; prompts in random order, with the pairs of each together; pairs as they are listed."""


class Policy(Protocol):
    """A model on disk (`models.load.ModelOnDisk`), as far as data need to know it."""

    path: str
    """Directory or Hub id."""
    id: str
    """Content id: another one for other weights."""

    def lent(self, device: Any) -> AbstractContextManager[Any]:
        """Return a context in which the model and its tokenizer are loaded."""
        ...


@dataclass(frozen=True)
class GivenPairs:
    """The pairs of one round, split by prompt."""

    train: list[PreferencePair]
    held_out: list[PreferencePair]
    notes: tuple[str, ...] = ()
    """What reading found, one line per code, for people."""


@dataclass(frozen=True, kw_only=True)
class PairRequest:
    """A round that needs pairs."""

    number: int
    """Of the round, counted from 1."""
    prompts: int
    """Which prompts the policy answers, counted from 0: the number of each round's own, or 0 in all rounds."""
    seed: int
    """Of the run."""
    policy: Policy
    """The newest policy."""
    root: Path
    """The outputs directory, for artifacts (`artifacts.Plan`)."""
    name: str
    """Readable part of their directories' names."""
    device: Any
    """The torch.device to compute on."""
    force: bool
    """Whether artifacts that exist are made again."""
    given: GivenPairs | None = None
    """The round's pairs as `Given.load` read them before the run; None for other data."""


@dataclass(frozen=True, kw_only=True)
class RoundPairs:
    """The pairs of a round, or ranked lists (`Data.makes_lists`)."""

    train: list[PreferencePair] | list[Candidates]
    held_out: list[PreferencePair]
    """Pairs of other prompts than those of `train`, for evaluation."""
    origin: str = ""
    """Where they came from, for the round's line on the screen; empty: how many there are is said."""
    notes: tuple[str, ...] = ()
    """What else is to be said of them below that line, such as which answers gave no pair."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Values of `Data.round_figures`."""
    made_by: Mapping[str, Any] = field(default_factory=dict)
    """By what they were made, and counts, as plain data for the run's record."""
    artifacts: tuple[Artifact, ...] = ()
    """What they were made from, in order."""
    drawn_by: str = ""
    """Id of the model that drew their responses, if the log-probabilities kept with them are its own; else empty."""


class Data(Component, ABC):
    """Where preference pairs come from: given, or made in each round."""

    label: str
    """Name in directories and on the end screen."""
    max_length: int
    """Tokens of prompt and response together."""
    truncation: Truncation
    """What happens to a pair that is longer: see tokens/build.py."""
    order: Order
    """In which order an epoch takes the pairs; by_prompt lets the pairs of a prompt share a step and its computation."""
    makes_pairs: ClassVar[bool] = True
    """True if pairs are made in each round, False if they exist before the run."""

    @property
    def holds_out(self) -> bool:
        """Whether some pairs are kept for evaluation."""
        return True

    @property
    def max_rounds(self) -> int | None:
        """How many rounds there are pairs for; None: as many as are asked for."""
        return None

    @property
    def asks(self) -> "Prompts | None":
        """The prompts that the policy answers in each round, None if it answers none."""
        return None

    @property
    def ranked_by(self) -> Component | None:
        """Who scores the answers that pairs are made of, None if nobody does in this run."""
        return None

    @property
    def reads_answers(self) -> bool:
        """Whether pairs are made of the data's own answers to `asks` (`Prompts.answers`)."""
        return False

    @property
    def makes_lists(self) -> bool:
        """Whether ranked lists are trained on, not pairs."""
        return False

    @property
    def responses_of_item(self) -> int:
        """How many responses one of its items has at most: two in a pair."""
        return 2

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The labels that every pair has (`preference`, ...); None if only reading tells."""
        return None

    @property
    def choices(self) -> tuple[tuple[str, str], ...]:
        """What the first line of a run shows beside the data's name: (group, choice)."""
        return ()

    @property
    def round_figures(self) -> tuple[Figure, ...]:
        """What is known of the pairs of each round, for the table of rounds (`RoundPairs.figures`)."""
        return ()

    def load(self, rounds: int = 1) -> list[GivenPairs]:
        """Return the pairs of each round that exist before the run: none if they are made in each round."""
        return []

    @abstractmethod
    def pairs(self, asked: PairRequest) -> RoundPairs:
        """Return the pairs of a round: equal requests get equal pairs.

        What takes long to make belongs into an artifact of `asked.root`, which is found again after a stop.
        """


class Given(Data):
    """Pairs that exist already."""

    makes_pairs: ClassVar[bool] = False

    @property
    def max_rounds(self) -> int:
        """One."""
        return 1

    def pairs(self, asked: PairRequest) -> RoundPairs:
        """Return what was read before the run, or read it."""
        given = asked.given or self.load(asked.number)[asked.number - 1]
        return RoundPairs(train=given.train, held_out=given.held_out)

    def values_of(self, column: str) -> Mapping[tuple[str, int], str]:
        """Return what a column says of each row, by the row's source and number, for tables by category.

        Raises:
            ConfigError: if there are no columns, or not this one.
        """
        raise ConfigError(f"category={column}: data={self.label} has no columns. Leave it out, or use data=jsonl.")

    @abstractmethod
    def load(self, rounds: int = 1) -> list[GivenPairs]:
        """Return the pairs of each round, those of some prompts held out; the same ones whatever the seed of the run.

        Data that has pairs for one round returns one; `rules/data.py` refuses more rounds than there are.

        Raises:
            DataError: with file, row, what was found, what happens, what to change.
        """


class Prompts(Component, ABC):
    """Prompts for on-policy pairs and for evaluation."""

    label: ClassVar[str]
    topic: ClassVar[str] = ""
    """What all prompts are about, if they are of one small world; empty for prompts about anything."""
    embedded: ClassVar[bool] = False
    """True if nothing has to be read or downloaded for them."""
    fields_of_answers: ClassVar[tuple[str, ...]] = ()
    """Fields that `answers` alone reads."""

    @abstractmethod
    def for_round(self, number: int, seed: int) -> list[Prompt]:
        """Return the prompts of a round, counted from 0; different rounds share none."""

    @abstractmethod
    def held_out(self) -> list[Prompt]:
        """Return the prompts that evaluation uses; no round ever trains on them."""

    def answers(self, prompts: Sequence[Prompt], seed: int) -> list[str]:
        """Return the data's own answer to each of some prompts, an empty text where it has none.

        Args:
            prompts: as `for_round` gave them.
        """
        return [""] * len(prompts)

    def total(self) -> int | None:
        """Return how many prompts there are, those for training included, where one source holds both; else None."""
        return None

    def values_of(self, column: str) -> Mapping[str, str]:
        """Return what a column says of each prompt, by the prompt's id, for tables by category.

        Raises:
            ConfigError: if there are no columns, or not this one.
        """
        raise ConfigError(f"category={column}: prompts={self.label} have no columns. Leave it out, or use prompts=jsonl.")

    @property
    def brings_examples(self) -> bool:
        """Whether there are examples, without reading any."""
        return type(self).examples is not Prompts.examples

    def examples(self, count: int, seed: int) -> list[tuple[Prompt, str]]:
        """Return (prompt, answer) examples for supervised fine-tuning; empty if there are none."""
        return []
