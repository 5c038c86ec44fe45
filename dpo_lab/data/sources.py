"""Given pairs: of a file or directory, and of a data set on the Hub."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from dpo_lab.artifacts import MANIFEST, file_digest, refuse_damage
from dpo_lab.components import ConfigError, component
from dpo_lab.data.base import Given, GivenPairs, Order, Truncation
from dpo_lab.data.categories import labelled
from dpo_lab.data.columns import Columns
from dpo_lab.data.files import SUFFIXES, Rows, refuse_other_than_rows
from dpo_lab.data.hub import DataSet, chosen_split, test_split_of
from dpo_lab.data.hub_messages import Origin
from dpo_lab.data.load import load_pairs, load_split
from dpo_lab.data.pairs import PAIRS
from dpo_lab.data.split import held_out_of, split_by_prompt

Share = Annotated[float, Field(ge=0, le=1)]
MaxLength = Annotated[int, Field(ge=4)]
HowMany = Annotated[int, Field(ge=0)] | Literal["all"] | None
NEUTRAL = ("path", "max_dropped", "revision", "config", "licence")
"""Fields that do not count as content: `Origin.content` or a file's digest stands for them."""


@component
class FilePairs(Given):
    """Pairs of a JSON or JSON Lines file, or of a directory in Hub layout, in any row format of data/formats."""

    path: Path
    """The file or directory; of a directory of pairs that this project made, their file."""
    config: str | None = None
    """Of a directory: which configuration of its card; null: the only one."""
    split: str | None = None
    """Of a directory: the split to train on; null: train, or the only one."""
    held_out_split: str | None = None
    """Of a directory: the split to evaluate on; null: the one with test in place of train in its name, if there is one, else
    prompts of the split itself, as for its own name."""
    held_out: HowMany = None
    """Prompts kept for evaluation; null: at most 500, and at most a fifth of a split that is trained on too; all: every one,
    which leaves nothing to train on."""
    split_seed: int = 0
    """Which prompts are held out; apart from the run's seed, so that runs of several seeds share their pairs."""
    columns: Columns = Columns()
    """Which column holds what; without a name in it, the known row formats decide."""
    max_dropped: Share = 0.05
    """Share of rows that may be left out as unusable before the run stops."""
    max_length: MaxLength = 512
    truncation: Truncation = "keep_end_prompt"
    order: Order = "shuffled"

    @property
    def label(self) -> str:  # type: ignore[override]
        """The file's name without its suffix, or the directory's."""
        return self.path.stem if self.path.suffix in SUFFIXES else self.path.absolute().name

    @property
    def place(self) -> Path:
        """The file or directory that holds the rows."""
        own = self.path / PAIRS
        return own if own.is_file() and (self.path / MANIFEST).is_file() else self.path

    @property
    def holds_out(self) -> bool:
        """Unless none are asked for."""
        return self.held_out != 0

    def idle(self) -> Mapping[str, str]:
        """Return which prompts are held out, if none are, or all."""
        return split_seed_idle(self.held_out)

    def content(self) -> dict[str, Any]:
        """Return the fields with the content's digest in place of the path; how many rows may be unusable does not count."""
        fields = {name: value for name, value in super().content().items() if name not in NEUTRAL}
        if self.place.is_dir():
            return {**fields, **Origin(path=str(self.place), config=self.config).content()}
        fields = {name: value for name, value in fields.items() if name not in ("split", "held_out_split")}
        return {**fields, "sha256": file_digest(self.place) if self.place.is_file() else None}

    def check_file(self) -> None:
        """Raise DataError if there is no such file or directory; read nothing."""
        if not self.place.is_dir():
            refuse_other_than_rows(self.place, "data.path")

    def values_of(self, column: str) -> Mapping[tuple[str, int], str]:
        """Return what a column says of each row of the file, or of each split of the directory."""
        if self.place.is_dir():
            return values_in(DataSet(Origin(path=str(self.place), config=self.config)), column)
        rows = ((self.place.name, number, row) for number, row in Rows(self.place))
        return {(name, number): value for name, number, _, value in labelled(rows, column, str(self.place))}

    def load(self, rounds: int = 1) -> list[GivenPairs]:
        """Return the pairs of a file, split by prompt, or of a directory's split."""
        refuse_damage(self.place.parent)
        if self.place.is_dir():
            data = DataSet(Origin(path=str(self.place), config=self.config))
            split = chosen_split(data, self.split, "data.split")
            return rounds_of(data, [split], [self.held_out_split], "data.held_out_split", self)
        for name in ("config", "split", "held_out_split"):
            if value := getattr(self, name):
                raise ConfigError(
                    f"data.{name}={value}: {self.place} is not a directory, and a file has no splits. Leave it out."
                )
        pairs, report = load_pairs(self.place, max_dropped=self.max_dropped, columns=self.columns)
        train, held_out = split_by_prompt(pairs, self.held_out, self.split_seed)
        return [GivenPairs(train, held_out, tuple(report.lines()))]


@component
class HubPairs(Given):
    """Pairs of a data set on the Hugging Face Hub, or of a directory in its layout."""

    on_hub: ClassVar[tuple[str, ...]] = ("path",)

    path: str
    """Hub id or directory."""
    revision: str | None = None
    """Commit, tag or branch of a Hub id; null: the newest. A directory is taken as it is."""
    licence: str | None = None
    """Of the rows, for the cards of what is made from them; null: not known."""
    config: str | None = None
    """Which configuration of the card; null: the only one."""
    splits: tuple[str, ...] = Field(min_length=1)
    """Training split of each round; one split means one round."""
    held_out_splits: tuple[str, ...] | None = None
    """Evaluation split of each round; null: with test in place of train in the name, where there is such a split, else prompts
    of the training split, as for its own name."""
    held_out: HowMany = None
    """Prompts kept for evaluation; null: at most 500, and at most a fifth of a split that is trained on too; all: every one,
    which leaves nothing to train on."""
    split_seed: int = 0
    """Which prompts are held out; apart from the run's seed, so that runs of several seeds share their pairs."""
    columns: Columns = Columns()
    """Which column holds what; without a name in it, the known row formats decide."""
    max_dropped: Share = 0.05
    """Share of rows that may be left out as unusable before the run stops."""
    max_length: MaxLength = 1024
    truncation: Truncation = "keep_end_prompt"
    order: Order = "shuffled"

    @field_validator("held_out_splits")
    @classmethod
    def _one_for_each(cls, names: tuple[str, ...] | None, others: ValidationInfo) -> tuple[str, ...] | None:
        splits = others.data.get("splits", ())
        if names is not None and len(names) != len(splits):
            raise ValueError(f"there are {len(splits)} training splits and {len(names)} for evaluation; name one for each")
        return names

    @property
    def label(self) -> str:  # type: ignore[override]
        """The data set's name without its owner."""
        return self.origin.label

    @property
    def holds_out(self) -> bool:
        """Unless none are asked for."""
        return self.held_out != 0

    def idle(self) -> Mapping[str, str]:
        """Return which prompts are held out, if none are, or all."""
        return split_seed_idle(self.held_out)

    @property
    def max_rounds(self) -> int:
        """As many as there are splits."""
        return len(self.splits)

    @property
    def origin(self) -> Origin:
        """The data set."""
        return Origin(path=self.path, config=self.config, revision=self.revision)

    def content(self) -> dict[str, Any]:
        """Return the fields with what determines the rows in place of the path."""
        return {**{name: value for name, value in super().content().items() if name not in NEUTRAL}, **self.origin.content()}

    def values_of(self, column: str) -> Mapping[tuple[str, int], str]:
        """Return what a column says of each row of each split."""
        return values_in(DataSet(self.origin), column)

    def load(self, rounds: int = 1) -> list[GivenPairs]:
        """Return the pairs of the first `rounds` splits."""
        data = DataSet(self.origin)
        splits = [chosen_split(data, name, "data.splits") for name in self.splits[:rounds]]
        return rounds_of(data, splits, self.held_out_splits or [None] * len(splits), "data.held_out_splits", self)


def values_in(data: DataSet, column: str) -> dict[tuple[str, int], str]:
    """Return what a column says of each row of a data set, by file and row."""
    rows = (row for name in data.names for row in data.split(name).rows())
    return {(file, number): value for file, number, _, value in labelled(rows, column, data.origin.path)}


def split_seed_idle(held_out: HowMany) -> Mapping[str, str]:
    """Return that it does not matter which prompts are held out where none are, or all."""
    whose = {0: "no prompts are", "all": "all prompts are"}.get(held_out) if held_out is not None else None
    return {"split_seed": f"{whose} held out (data.held_out={held_out})"} if whose else {}


def rounds_of(
    data: DataSet, splits: Sequence[str], held_out: Sequence[str | None], key: str, given: FilePairs | HubPairs
) -> list[GivenPairs]:
    """Return the pairs of each split; a prompt that any round holds out is trained on in none.

    Args:
        held_out: the split to evaluate on, for each; None looks for one.
        key: of the setting that names these.
    """
    rounds = []
    for name, wanted in zip(splits, held_out, strict=False):
        pairs, report = load_split(data.split(name), max_dropped=given.max_dropped, columns=given.columns)
        notes = report.lines()
        other = chosen_split(data, wanted, key) if wanted else test_split_of(name, data.names) or name
        if other == name:
            rounds.append(GivenPairs(*split_by_prompt(pairs, given.held_out, given.split_seed), tuple(notes)))
        elif given.held_out == 0:
            rounds.append(GivenPairs(pairs, [], tuple(notes)))
        else:
            others, other_report = load_split(data.split(other), max_dropped=given.max_dropped, columns=given.columns)
            notes += [f"held out: {line}" for line in other_report.lines()]
            rounds.append(GivenPairs(pairs, held_out_of(others, given.held_out, given.split_seed), tuple(notes)))
    rounds = without_evaluated_prompts(rounds)
    return [replace(rounds[0], notes=(*data.notes, *rounds[0].notes)), *rounds[1:]]


def without_evaluated_prompts(rounds: Sequence[GivenPairs]) -> list[GivenPairs]:
    """Return the rounds without training pairs whose prompt some round holds out, and with a note where there were any."""
    evaluated = {pair.prompt.id for given in rounds for pair in given.held_out}
    made = []
    for given in rounds:
        train = [pair for pair in given.train if pair.prompt.id not in evaluated]
        notes = given.notes
        if left_out := len(given.train) - len(train):
            notes = (*notes, f"{left_out} training pairs answer a prompt that is held out, and are left out")
        made.append(replace(given, train=train, notes=notes))
    return made
