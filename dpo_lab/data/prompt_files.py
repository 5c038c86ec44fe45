"""Prompts of a person's own: of a JSON or JSON Lines file, or of a directory in Hub layout."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from dpo_lab.artifacts import file_digest
from dpo_lab.components import ConfigError, component
from dpo_lab.data.base import Prompts
from dpo_lab.data.categories import labelled
from dpo_lab.data.files import SUFFIXES, Rows, refuse_other_than_rows
from dpo_lab.data.hub import DataSet, chosen_split
from dpo_lab.data.hub_messages import Origin
from dpo_lab.data.inputs import refuse_inputs, refuse_marks
from dpo_lab.data.kinds import is_empty
from dpo_lab.data.problems import DataError, RowProblem, first_of
from dpo_lab.data.prompts import MAX_FAULTY, answer_of, usable_prompt
from dpo_lab.data.split import default_held_out
from dpo_lab.data.turns import Row, text_of
from dpo_lab.progress import say
from dpo_lab.records import Prompt
from dpo_lab.seeding import random_for

COLUMNS = ("prompt", "messages", "instruction", "question")
"""Where a prompt is looked for, in this order."""
ANSWERS = ("answer", "chosen", "completion", "response", "output")
"""Where the data's own answer is looked for, in this order."""
OTHERS = ("system", "system_prompt", "system_message", "input", "context", "history")
"""Columns that belong to a prompt: they would be lost beside another column."""


@component
class FilePrompts(Prompts):
    """Prompts of a JSON or JSON Lines file, or of a directory in Hub layout: a column of text or turns.

    A column of turns ends with a user turn. Equal prompts count once.
    """

    fields_of_answers: ClassVar[tuple[str, ...]] = ("answer",)

    path: Path
    """The file or directory."""
    column: str | None = None
    """The column that holds text or turns; null: prompt, messages, instruction (with input) or question."""
    answer: str | None = None
    """The column with the data's own answers, text or turns, which pairing=spin sets against drawn ones; null: answer, chosen,
    completion, response or output."""
    num_prompts: PositiveInt | None = None
    """Prompts per round; null: all that are not held out."""
    num_held_out: Annotated[int, Field(ge=0)] | Literal["all"] | None = None
    """Prompts kept for evaluation, which no round gets; null: a fifth of them, at most 500; all: every one."""
    split_seed: int = 0
    """Which prompts are held out; apart from the run's seed, so that runs of several seeds are evaluated on the same ones."""

    @property
    def label(self) -> str:  # type: ignore[override]
        """The file's name without its suffix, or the directory's."""
        return self.path.stem if self.path.suffix in SUFFIXES else self.path.absolute().name

    def content(self) -> dict[str, Any]:
        """Return the fields with the digest of the content in place of the path."""
        fields = {name: value for name, value in super().content().items() if name != "path"}
        if self.path.is_dir():
            return {**fields, **Origin(path=str(self.path), key="prompts").content()}
        return {**fields, "sha256": file_digest(self.path) if self.path.is_file() else None}

    def check_file(self) -> None:
        """Raise DataError if there is no such file or directory; read nothing."""
        if not self.path.is_dir():
            refuse_other_than_rows(self.path, "prompts.path")

    def for_round(self, number: int, seed: int) -> list[Prompt]:
        """Return the prompts of a round, drawn without any of the rounds before; ConfigError when there are no more."""
        evaluated = {prompt.id for prompt in self.held_out()}
        prompts = [prompt for prompt in self._all() if prompt.id not in evaluated]
        count = self.num_prompts or len(prompts)
        if not prompts or (number + 1) * count > len(prompts):
            share = len(prompts) // (number + 1)
            same = ", or iteration.prompts=same" if count <= len(prompts) else ""
            add = "Use prompts.num_held_out=null." if self.num_held_out == "all" else "Add prompts."
            remedy = f"Use prompts.num_prompts={share}{same}." if share else add
            none = ", and rounds share none" if number else ""
            raise ConfigError(
                f"prompts.num_prompts={'null' if self.num_prompts is None else count}, round {number + 1}: {self.path} has "
                f"{len(prompts)} prompts beside {len(evaluated)} for evaluation{none}. {remedy}"
            )
        return random_for(seed, "prompts").sample(prompts, len(prompts))[number * count : (number + 1) * count]

    def held_out(self) -> list[Prompt]:
        """Return the same prompts for every seed of a run."""
        prompts = self._all()
        if self.num_held_out == "all":
            return list(prompts)
        count = default_held_out(len(prompts)) if self.num_held_out is None else self.num_held_out
        if count >= len(prompts):
            raise ConfigError(
                f"prompts.num_held_out={count} leaves none of the {len(prompts)} prompts of {self.path} to train on. "
                f"Use prompts.num_held_out={len(prompts) - 1} at most, or prompts.num_held_out=null for a fifth of them."
            )
        return random_for(self.split_seed, "held_out").sample(sorted(prompts, key=lambda prompt: prompt.id), count)

    def answers(self, prompts: Sequence[Prompt], seed: int) -> list[str]:
        """Return what the file answers to each prompt; of equal prompts the first answer."""
        known = read_answers(self.path, self.column, self.answer, self.content().get("sha256"))
        return [known.get(prompt.id, "") for prompt in prompts]

    def total(self) -> int:
        """Return how many distinct prompts the file holds."""
        return len(self._all())

    def values_of(self, column: str) -> Mapping[str, str]:
        """Return what a column says of each prompt; of equal prompts the first counts."""
        found: dict[str, str] = {}
        for _, _, row, value in labelled(_rows_of(self.path), column, str(self.path)):
            with suppress(RowProblem):  # which `read_prompts` has told of
                found.setdefault(prompt_of(row, self.column).id, value)
        return found

    def _all(self) -> tuple[Prompt, ...]:
        return read_prompts(self.path, self.column, self.content().get("sha256"))


@cache
def read_prompts(path: Path, column: str | None, digest: str | None) -> tuple[Prompt, ...]:
    """Return the distinct prompts in order, read once in a process.

    Args:
        digest: of the file, so that a changed one is read again.

    Raises:
        DataError: the file or directory cannot be read, no column holds prompts, or more than 5 % of the rows are unusable.
    """
    prompts: dict[str, Prompt] = {}
    faulty: list[str] = []
    count = 0
    for file, number, row in _rows_of(path):
        count += 1
        try:
            prompt = prompt_of(row, column)
            prompts.setdefault(prompt.id, prompt)
        except RowProblem as problem:
            faulty.append(f"{file} row {number}: {problem}")
    if len(faulty) > MAX_FAULTY * count or not prompts:
        raise DataError(
            f"{path}: {len(faulty)} of {count} prompts cannot be used ({first_of(faulty, 3)}). "
            "Correct the rows, or name the column that holds text or turns: prompts.column=NAME.",
            code="too_many_dropped",
        )
    if faulty:
        say(f"  {path}: {len(faulty)} prompts left out ({first_of(faulty, 3)})")
    return tuple(prompts.values())


@cache
def read_answers(path: Path, column: str | None, answer: str | None, digest: str | None) -> Mapping[str, str]:
    """Return the data's own answers by the ids of their prompts, read once in a process.

    Args:
        column: see `prompt_of`.
        answer: the column to read; None: the first of `ANSWERS` that holds one.
        digest: of the file, so that a changed one is read again.

    Raises:
        DataError: no row has the column that is named.
    """
    found: dict[str, str] = {}
    columns = dict[str, None]()
    for _, _, row in _rows_of(path):
        columns |= dict.fromkeys(row)
        try:
            prompt = prompt_of(row, column)
        except RowProblem:
            continue  # `read_prompts` counts it
        if text := next((text for name in ([answer] if answer else ANSWERS) if (text := answer_of(row.get(name), name))), ""):
            found.setdefault(prompt.id, text)
    if answer and answer not in columns:
        raise DataError(f"{path} has no column {answer} (prompts.answer); it has {', '.join(columns)}.", code="missing_field")
    return found


def _rows_of(path: Path) -> Iterator[tuple[str, int, Row]]:
    if not path.is_dir():
        return _in_file(path.name, Rows(path, key="prompts.path"))
    data = DataSet(Origin(path=str(path), key="prompts"))
    return data.split(chosen_split(data, None, "prompts.split")).rows()


def _in_file(name: str, rows: Iterable[tuple[int, Row]]) -> Iterator[tuple[str, int, Row]]:
    return ((name, number, row) for number, row in rows)


def prompt_of(row: Row, column: str | None = None) -> Prompt:
    """Return the prompt of a row.

    >>> prompt_of({"instruction": "Translate.", "input": "Guten Tag"}).text
    'Translate.\\n\\nGuten Tag'

    Args:
        column: the one to read; None: the first of `COLUMNS` that is there.

    Raises:
        RowProblem: there is none, or its prompt cannot be used.
    """
    name = column or next((each for each in COLUMNS if each in row), None)
    if name is None or name not in row:
        raise RowProblem("missing_field", f"no column {column or ' or '.join(COLUMNS)} among {', '.join(row) or '(none)'}")
    value = row[name]
    context = text_of(row, "input") if name == "instruction" and column is None else ""
    if column is None:
        refuse_inputs({other: each for other, each in row.items() if other != name})
        lost = [other for other in OTHERS if not is_empty(row.get(other)) and not (other == "input" and context)]
        if lost:
            raise RowProblem("unknown_layout", f"the columns {', '.join(lost)} beside {name} would be lost")
    prompt = usable_prompt(f"{value}\n\n{context}" if context.strip() else value)
    if column is None:
        refuse_marks(prompt.messages)
    return prompt
