"""Reads the rows of one file: which column is what and which format it is are decided by its first rows, then kept for all rows.

A column that holds nothing in those rows joins where it first does, as far as the rows before are read the same with it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dpo_lab.data.columns import ABSENT, Columns, Row, value_at
from dpo_lab.data.formats import format_of
from dpo_lab.data.formats.base import Parts, RowFormat
from dpo_lab.data.inputs import refuse_inputs, refuse_marks
from dpo_lab.data.kinds import is_empty
from dpo_lab.data.mapping import explained_mapping
from dpo_lab.data.parts import TEXTS, asks, parts_of, with_mapping
from dpo_lab.data.problems import RowProblem, excerpt
from dpo_lab.data.roles import KEPT, roles_of
from dpo_lab.data.unread import ReadTexts, unexplained
from dpo_lab.data.written import is_shown
from dpo_lab.records import Example

SAMPLE = 1000
"""Rows whose values together decide how a file is read, so that a column may be empty in the first rows; see `joined`."""
SILENT = frozenset(("id", "prompt_id", "source", "row", "split"))
"""Columns of the canonical record that training does not need; nobody asks after them."""
STANDARD = {"prompt": ("prompt", "instruction")}
"""Other columns than the role's own name that need no line on the screen."""
ROLES = (
    *("prompt", "input", "system", "history", "ranked", "completion", "label"),
    *("chosen", "rejected", "score_chosen", "score_rejected"),
)
REFUSALS = frozenset(
    (
        *("unknown_layout", "ambiguous_columns", "unread_input", "json_text", "several_values", "answer_object"),
        *("no_prompt", "no_effect", "unpaired_labels"),
    )
)
"""Codes that say how the whole file is written; the first row that has one speaks for all."""


def sample_of(rows: Iterable[Row], named: Collection[str] = ()) -> Row:
    """Return one row with the first value of every column that is neither empty nor a number, or whatever there is.

    Args:
        rows: all rows; the first `SAMPLE` are looked at, more only for a column that is named and not yet found.
        named: columns, or paths into them.

    >>> sample_of([{"a": None, "b": 1}, {"a": "x", "c": []}, {"a": "y", "b": "z"}])
    {'a': 'x', 'b': 'z', 'c': []}
    """
    sample: Row = {}
    for number, row in enumerate(rows):
        if number >= SAMPLE and all(value_at(sample, path) is not ABSENT for path in named):
            break
        for name, value in row.items():
            if name not in sample or (says_little(sample[name]) and not is_empty(value)):
                sample[name] = value
    return sample


def says_little(value: Any) -> bool:
    """Return whether a value is empty or a number, so that another one tells more of its column."""
    return isinstance(value, int | float) or is_empty(value)


@dataclass(frozen=True, kw_only=True)
class RowReader:
    """How the rows of one file are read."""

    sample: Row
    """The first value of every column, which decided."""
    settled: frozenset[str]
    """Columns of it that hold something."""
    columns: Columns
    named: Mapping[str, str]
    """What the user names, by role."""
    roles: Mapping[str, str]
    """The column of each role."""
    format: RowFormat
    is_question: bool
    """The prompt's text is a user turn."""
    kinds: Mapping[str, str]
    """What prompt, chosen and rejected hold in this file."""
    read_columns: frozenset[str]
    """Columns that are read."""

    @classmethod
    def for_rows(cls, sample: Row, columns: Columns) -> "RowReader":
        """Return the reader of rows of which `sample` shows the columns.

        Raises:
            RowProblem: the rows are in no known format; the message says what to type.
        """
        named = columns.named
        try:
            roles = roles_of(sample, columns)
        except RowProblem as problem:
            raise with_mapping(problem, sample, columns) from None
        is_question = asks(sample, roles, columns)
        parts = parts_of(sample, roles, columns, named, is_question=is_question)
        try:
            known = format_of(parts)
        except RowProblem as problem:
            raise as_they_stand(problem, sample, roles) from None
        refuse_without_effect(columns, known)
        used = [path for role, path in roles.items() if role in (*known.columns, *known.answers)]
        tops = {path if path in sample else path.partition(".")[0] for path in (*used, *named.values())}
        return cls(
            sample=sample,
            settled=frozenset(name for name, value in sample.items() if not says_little(value)),
            columns=columns,
            named=named,
            roles=roles,
            format=known,
            is_question=is_question,
            kinds={role: parts.kind(role) for role in TEXTS},
            read_columns=frozenset(tops) | KEPT,
        )

    @property
    def is_mapped(self) -> bool:
        """Whether the user said which column is what, so that the others may be left out."""
        return any(not role.startswith("score") for role in self.named)

    def joined(self, row: Row) -> "RowReader":
        """Return the reader of a row and those after it: one that reads a column too which held nothing before this row.

        Raises:
            RowProblem: with that column, the rows before would be read in another way.
        """
        if row.keys() <= self.settled:
            return self
        late = {name: value for name, value in row.items() if name not in self.settled and not says_little(value)}
        if not late:
            return self
        more = RowReader.for_rows({**self.sample, **late}, self.columns)
        moved = [(role, path) for role, path in self.roles.items() if more.roles.get(role) != path]
        if moved or more.format is not self.format or more.is_question != self.is_question:
            what = f"{', '.join(late)} held nothing in the rows before; with {'it' if len(late) == 1 else 'them'}, "
            how = f"this row is {more.format.name}, the rows before are {self.format.name}"
            if moved and (new := more.roles.get(moved[0][0])):
                how = f"{new} is the {moved[0][0]}, which was {moved[0][1]}"
            elif more.format is self.format:
                how = "the prompt is a user turn, which was plain text"
            raise self.with_words(RowProblem("mixed_formats", what + how), row)
        return more

    def read(self, row: Row) -> Example:
        """Return the pair, label or ranked list of a row.

        Raises:
            RowProblem: the row is unusable, is written in another way than the file, or has text that nobody reads.
        """
        parts = parts_of(row, self.roles, self.columns, self.named, is_question=self.is_question)
        self.refuse_other_format(row, parts)
        rest = {} if self.is_mapped else {name: value for name, value in row.items() if name not in self.read_columns}
        if rest:
            try:
                refuse_inputs({name: value for name, value in rest.items() if name not in SILENT})
            except RowProblem as problem:
                raise self.with_words(problem, row) from None
        try:
            example = self.format.read(parts)
        except RowProblem:
            if rest and self.format.takes_beginning and self.unexplained(rest, None):
                raise self.ambiguous(row, rest, None) from None
            raise
        if not self.is_mapped:
            try:
                refuse_marks(example.prompt.messages)
            except RowProblem as problem:
                raise self.with_words(problem, row) from None
        if rest and self.unexplained(rest, example):
            raise self.ambiguous(row, rest, example)
        return example

    def unexplained(self, rest: Row, example: Example | None) -> list[str]:
        """Return the columns that may hold a part of the prompt."""
        turns = example.prompt.messages if example else ()
        texts = ReadTexts(tuple(turn["content"] for turn in turns), example.responses if example else ())
        return unexplained(rest, texts, strict=self.format.takes_beginning)

    def ambiguous(self, row: Row, rest: Row, example: Example | None) -> RowProblem:
        """Return the problem of a row with columns that may hold a part of the prompt."""
        shown = ", ".join(f"{name} ({excerpt(row[name], 40)})" for name in self.unexplained(rest, example))
        found = f"columns found: {', '.join(row)}; nobody reads {shown}, and it may belong to the prompt"
        return self.with_words(RowProblem("ambiguous_columns", found), row)

    def with_words(self, problem: RowProblem, row: Row) -> RowProblem:
        """Return a problem whose message says how the same rows are read without the other columns."""
        of_parts = not {"input", "history"}.isdisjoint(self.roles)  # a prompt that is named is the whole prompt
        known = {role: path for role, path in self.roles.items() if role in TEXTS and not (of_parts and role == "prompt")}
        alone = isinstance(chosen := value_at(row, self.roles.get("chosen", "")), list) and len(chosen) == 1
        in_answers = "prompt" not in self.roles and not self.format.takes_beginning and not alone
        words = explained_mapping(row, known, prompt=not (in_answers or of_parts))
        if self.format.takes_beginning:
            words += "; without data.columns.prompt, the beginning that both answers share is the prompt"
        return RowProblem(problem.code, f"{problem.found}. {words}")

    def refuse_other_format(self, row: Row, parts: Parts) -> None:
        """Raise RowProblem if a row is written in another way than the rows that decided."""
        absent = [role for role in self.format.answers if value_at(row, self.roles[role]) is ABSENT]
        if len(absent) == len(self.format.answers):
            problem = RowProblem("unknown_layout", f"columns found: {', '.join(row) or '(none)'}")
            raise with_mapping(problem, row, self.columns)
        if absent:
            raise RowProblem("missing_field", f"no {self.roles[absent[0]]!r} among the columns {', '.join(row)}")
        kinds = {role: parts.kind(role) for role in TEXTS}
        if kinds == self.kinds:
            return
        mixed = kinds["chosen"] != kinds["rejected"] and self.kinds["chosen"] == self.kinds["rejected"]
        if mixed and kinds["chosen"] and kinds["rejected"]:
            names = f"{parts.name('chosen')} and {parts.name('rejected')}"
            raise as_they_stand(RowProblem("wrong_type", f"one of {names} is text and the other is turns"), row, self.roles)
        no_prompt = "prompt" in self.roles and value_at(row, self.roles["prompt"]) is ABSENT
        if no_prompt or any(kinds[role] and self.kinds[role] and kinds[role] != self.kinds[role] for role in TEXTS):
            own = RowReader.for_rows(row, self.columns).format.name
            if own != self.format.name:
                raise RowProblem("mixed_formats", f"columns {', '.join(row)} are {own}; the rows before are {self.format.name}")

    def unread(self, row: Row) -> list[str]:
        """Return the columns of a row that hold something and are not read."""
        return [name for name, value in row.items() if name not in self.read_columns | SILENT and not is_empty(value)]

    def notes(self, example: Example, place: str) -> list[str]:
        """Return what people should know of how the file is read: columns by other names, and a prompt that no column says.

        Args:
            example: one of the file.
            place: where it stands.
        """
        notes = []
        if self.columns.text or any(path not in (role, *STANDARD.get(role, ())) for role, path in self.roles.items()):
            used = {role: path for role, path in self.roles.items() if role in (*self.format.columns, *self.format.answers)}
            used = {**used, **self.named}
            said = ", ".join(f"{role}={used[role]}" for role in ROLES if role in used)
            notes.append(f"read: {said}" + (f", text={self.columns.text}" if self.columns.text else ""))
        if "prompt" not in self.roles:
            what = "the prompt is the turns before the answer"
            if self.format.takes_beginning:
                what = "no column holds the prompt: it is the beginning that both answers share"
            notes.append(f"{what}, for instance {excerpt(example.prompt.text, 120)} ({place})")
        return notes


def as_they_stand(problem: RowProblem, row: Row, roles: Mapping[str, str]) -> RowProblem:
    """Return a problem whose message says what reads an answer that shows turns in a fence or behind a label as text."""
    if not any(is_shown(value_at(row, roles[role])) for role in ("chosen", "rejected") if role in roles):
        return problem
    words = "If the model should write the turns as they stand, type data.columns.text=chat"
    return RowProblem(problem.code, f"{problem.found}. {words}", verdict=problem.verdict)


def refuse_without_effect(columns: Columns, found: RowFormat) -> None:
    """Raise RowProblem if a setting of data.columns changes nothing in rows of this format."""
    said = {role: path for role, path in columns.named.items() if role in ("prompt", "system") and role not in found.columns}
    if columns.text and columns.text not in found.texts:
        said["text"] = columns.text
    for role, value in said.items():
        words = f"data.columns.{role}={value} has no effect on rows in the format {found.name}"
        raise RowProblem("no_effect", f"{words}{', which has no system turn' if role == 'system' else ''}. Leave it out")
