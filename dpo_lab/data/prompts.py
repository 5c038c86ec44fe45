"""Prompts of the embedded film world, and of Hub data sets."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

from pydantic import PositiveInt

from dpo_lab.components import ConfigError, component
from dpo_lab.data.base import Prompts
from dpo_lab.data.hub import DataSet, chosen_split
from dpo_lab.data.hub_messages import Origin
from dpo_lab.data.json_text import unwrapped
from dpo_lab.data.problems import DataError, RowProblem, first_of
from dpo_lab.data.turns import turns_of
from dpo_lab.data.validation import refuse_faults, stripped
from dpo_lab.progress import say
from dpo_lab.records import PreferencePair, Prompt
from dpo_lab.seeding import random_for
from dpo_lab.world.corpus import sft_corpus
from dpo_lab.world.grammar import write_review
from dpo_lab.world.parser import asked_title
from dpo_lab.world.prompts import held_out_prompts, train_prompts, train_prompts_for

MAX_FAULTY = 0.05
"""Share of unusable prompts above which a data set is refused, as for pairs."""


@component
class FilmPrompts(Prompts):
    """Questions about films of the embedded world; 53 of the 1024 films are held out."""

    label: ClassVar[str] = "films"
    topic: ClassVar[str] = "films"
    embedded: ClassVar[bool] = True

    num_prompts: PositiveInt = 600
    """Prompts per round."""

    def for_round(self, number: int, seed: int) -> list[Prompt]:
        """Return the prompts of a round; ConfigError when the world has no more."""
        try:
            texts = train_prompts_for(seed, number * self.num_prompts, self.num_prompts)
        except ValueError as error:
            most = len(train_prompts()) // (number + 1)
            raise ConfigError(
                f"prompts.num_prompts={self.num_prompts}, round {number + 1}: {error} Use prompts.num_prompts={most}"
            ) from None
        return [Prompt.from_text(text) for text in texts]

    def held_out(self) -> list[Prompt]:
        """Return every prompt about a held-out film: 318."""
        return [Prompt.from_text(text) for text in held_out_prompts()]

    def answers(self, prompts: Sequence[Prompt], seed: int) -> list[str]:
        """Return a review of the asked film for each prompt, by the grammar: what the first half of the corpus is like."""
        return [
            write_review(asked_title(prompt.text), random_for(seed, "answer", prompt.id), title_share=1.0) for prompt in prompts
        ]

    def examples(self, count: int, seed: int) -> list[tuple[Prompt, str]]:
        """Return reviews written by the grammar, as a curriculum."""
        return [(Prompt.from_text(prompt), review) for prompt, review in sft_corpus(count, seed)]


@component
class HubPrompts(Prompts):
    """Prompts of a data set on the Hugging Face Hub, or of a directory in its layout: its column `prompt`, text or turns."""

    label: ClassVar[str] = "ultrafeedback"
    on_hub: ClassVar[tuple[str, ...]] = ("path",)
    fields_of_answers: ClassVar[tuple[str, ...]] = ("answer",)

    path: str
    """Hub id or directory."""
    revision: str | None = None
    """Commit, tag or branch of a Hub id; null: the newest. A directory is taken as it is."""
    licence: str | None = None
    """Of the rows, for the cards of what is made from them; null: not known."""
    config: str | None = None
    """Which configuration of the card; null: the only one."""
    split: str
    """The split whose prompts rounds draw from."""
    held_out_split: str
    """The split whose prompts evaluation uses; no round gets one of them."""
    answer: str = "chosen"
    """The column with the data's own answers, text or turns, which pairing=spin sets against drawn ones."""
    num_prompts: PositiveInt = 5000
    """Prompts per round."""
    num_held_out: PositiveInt = 500
    """At most so many prompts for evaluation."""

    @property
    def origin(self) -> Origin:
        """The data set."""
        return Origin(path=self.path, config=self.config, revision=self.revision, key="prompts")

    def content(self) -> dict[str, Any]:
        """Return the fields with what determines the rows in place of the path."""
        fields = {
            name: value for name, value in super().content().items() if name not in ("path", "revision", "config", "licence")
        }
        return {**fields, **self.origin.content()}

    def for_round(self, number: int, seed: int) -> list[Prompt]:
        """Return the prompts of a round, drawn without any of the rounds before; ConfigError when there are no more."""
        evaluated = {prompt.id for prompt in self.held_out()}
        prompts = [prompt for prompt in prompts_of(self.origin, self.split, "prompts.split") if prompt.id not in evaluated]
        start, end = number * self.num_prompts, (number + 1) * self.num_prompts
        if end > len(prompts):
            share = len(prompts) // (number + 1)
            ways = [f"prompts.num_prompts={share}"] if share else []
            ways += ["iteration.prompts=same"] if number and self.num_prompts <= len(prompts) else []
            raise ConfigError(
                f"prompts.num_prompts={self.num_prompts}, round {number + 1}: {self.path} has {len(prompts)} prompts in "
                f"{self.split}{', and rounds share none' if number else ''}. "
                + (f"Use {', or '.join(ways)}." if ways else "Add prompts.")
            )
        return random_for(seed, "prompts").sample(prompts, len(prompts))[start:end]

    def answers(self, prompts: Sequence[Prompt], seed: int) -> list[str]:
        """Return what the column `answer` says to each prompt; of equal prompts the first answer."""
        known = answers_in(self.origin, self.split, "prompts.split", self.answer)
        return [known.get(prompt.id, "") for prompt in prompts]

    def held_out(self) -> list[Prompt]:
        """Return the same prompts for every seed."""
        prompts = prompts_of(self.origin, self.held_out_split, "prompts.held_out_split")
        return random_for(0, "held_out").sample(prompts, min(self.num_held_out, len(prompts)))


@cache
def prompts_of(origin: Origin, split: str, key: str) -> tuple[Prompt, ...]:
    """Return the distinct prompts of a split, read once in a process.

    Raises:
        DataError: the data set or split cannot be loaded, it has no column `prompt`, or more than 5 % of its rows are unusable.
    """
    data = DataSet(origin)
    rows = data.split(chosen_split(data, split, key))
    if "prompt" not in rows.columns:
        raise DataError(
            f"{rows.label} has no column prompt (columns found: {', '.join(rows.columns)}). Correct {key}, or rename the column.",
            code="missing_field",
        )
    prompts: dict[str, Prompt] = {}
    faulty: list[str] = []
    for file, number, row in rows.rows(("prompt",)):
        try:
            prompt = usable_prompt(row["prompt"])
            prompts.setdefault(prompt.id, prompt)
        except RowProblem as problem:
            faulty.append(f"{file} row {number}: {problem}")
    if len(faulty) > MAX_FAULTY * rows.data.num_rows or not prompts:
        raise DataError(
            f"{rows.label}: {len(faulty)} of {rows.data.num_rows} prompts cannot be used ({first_of(faulty, 3)}). "
            f"Correct the rows, or choose another split: {key}.",
            code="too_many_dropped",
        )
    if faulty:
        say(f"  {rows.label}: {len(faulty)} prompts left out ({first_of(faulty, 3)})")
    return tuple(prompts.values())


@cache
def answers_in(origin: Origin, split: str, key: str, column: str) -> Mapping[str, str]:
    """Return the answers of a split's column by the ids of their prompts, read once in a process.

    Raises:
        DataError: the split has no such column.
    """
    data = DataSet(origin)
    rows = data.split(chosen_split(data, split, key))
    if column not in rows.columns:
        raise DataError(
            f"{rows.label} has no column {column} (columns found: {', '.join(rows.columns)}). Name the column with the "
            "data's own answers: prompts.answer=NAME",
            code="missing_field",
        )
    found: dict[str, str] = {}
    for _, _, row in rows.rows(("prompt", column)):
        try:
            prompt = usable_prompt(row["prompt"])
        except RowProblem:
            continue  # `prompts_of` counts it
        if answer := answer_of(row[column], column):
            found.setdefault(prompt.id, answer)
    return found


def answer_of(value: Any, column: str) -> str:
    """Return the text of an answer, or of the last turn of a conversation if the assistant has it; else an empty text.

    >>> answer_of([{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}], "chosen"), answer_of(None, "a")
    ('So.', '')
    """
    try:
        value = unwrapped(value, column)
        turns = turns_of(value, column) if not isinstance(value, str) else []
    except RowProblem:
        return ""
    if isinstance(value, str):
        return value.strip()
    return turns[-1]["content"].strip() if turns and turns[-1]["role"] == "assistant" else ""


def usable_prompt(value: Any) -> Prompt:
    """Return the prompt of a text or of turns, checked as that of a pair; RowProblem if a pair with it would be refused."""
    value = unwrapped(value, "prompt")
    prompt = Prompt.from_text(value) if isinstance(value, str) else Prompt.of(turns_of(value, "prompt"))
    pair = stripped(PreferencePair(prompt=prompt, chosen="yes", rejected="no"))  # any two answers: the checks are those of pairs
    refuse_faults(pair)
    if pair.prompt.messages[-1]["role"] != "user":
        raise RowProblem("bad_roles", "the prompt does not end with a user turn")
    return pair.prompt
