"""Which columns of a file hold the prompt, its answers and what people prefer: by known names, or as the user says."""

import ast
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from dpo_lab.components import Component, component
from dpo_lab.data.answers.labels import LABELS, position_of
from dpo_lab.data.columns import ABSENT, SIMPLE, Row, column_meant, paths_in, setting, value_at
from dpo_lab.data.json_text import ANSWER_KEYS
from dpo_lab.data.kinds import words_of
from dpo_lab.data.mapping import BETTER, WORSE
from dpo_lab.data.problems import DataError, RowProblem
from dpo_lab.data.roles import SYSTEMS, answer_roles, holds_conversation, prompt_roles
from dpo_lab.data.unread import ANSWERS, last_word
from dpo_lab.data.written import is_turns, parsed

KEY = "candidates.columns"
ANSWER_WORDS = ANSWERS.union(
    ("candidate", "candidates", "sample", "samples", "reply", "replies", "conversation", "choices", "texts"),
    ("prediction", "predictions", "solution", "solutions", "rollouts"),
)
"""Last words of names of columns that hold an answer or a list of answers."""
NUMBERED = re.compile(r"(.*?)[_ -]?(\d+|(?<=[_ -])[a-hA-H])")
"""A name that ends in a number, or in a single letter: output_1, response2, completion_a."""
NO_ANSWER = frozenset(("chosen", "rejected"))


@component
class AnswerColumns(Component):
    """Names of columns: plain, or dotted into objects, lists and JSON text (`output.0`, `completions.text`).

    Without any, known names decide. With one, those that are not given keep their known names, and other columns are left out.
    """

    prompt: str | None = None
    """Text or turns that all answers answer: the whole prompt, without input, history and system of known names."""
    system: str | None = None
    """Text of a system turn before the prompt."""
    responses: str | tuple[str, ...] | None = None
    """One column with a list of answers, or several with one answer each."""
    preferred: str | tuple[str, ...] | None = None
    """What people prefer, one column or one for each person: the end of a column's name (1, 2, a, b), or in a list of answers the
    text or the position counted from 0; `tie` for none."""
    text: Literal["chat"] | None = None
    """chat: an answer that shows turns, in a fence of code, behind a label or in base64, is text as it stands; null: such turns
    are read, if all answers of the row are turns."""

    @property
    def named(self) -> dict[str, tuple[str, ...]]:
        """What the user names, by role."""
        values = {role: getattr(self, role) for role in ("prompt", "system", "responses", "preferred")}
        return {role: (value,) if isinstance(value, str) else value for role, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class AnswerRoles:
    """The columns of one file."""

    answers: tuple[str, ...]
    """One column with a list of answers, or several with one answer each."""
    in_list: bool
    beside: Mapping[str, str]
    """The columns of prompt, input, system and history, as far as there are any."""
    labels: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    """What the columns of the answers end in."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        return (*self.answers, *self.beside.values(), *self.labels)

    def note(self) -> str:
        """Return how the file is read, in the words of its columns."""
        labels = [f"preferred={'+'.join(self.labels)}"] if self.labels else []
        return "read: " + ", ".join(
            [*(f"{role}={name}" for role, name in self.beside.items()), f"responses={'+'.join(self.answers)}", *labels]
        )


def answer_roles_of(sample: Row, columns: AnswerColumns, *, one: bool = False) -> AnswerRoles:
    """Return which columns of a file hold what.

    Args:
        sample: the first values of its columns.
        columns: what the user says.
        one: whether a row holds one answer, not several to compare.

    Raises:
        RowProblem: no column can be the answers or the prompt, or more than one can; the message says what to type.
    """
    named = columns.named
    lower = {name.lower(): name for name in reversed(sample)}
    answers = named.get("responses") or (_known_answer(sample) if one else _known_answers(sample))
    in_list = len(answers) == 1 and (not one or texts_of_list(listed(sample, answers[0])) is not None)
    ends = tuple(match[2].lower() if (match := NUMBERED.fullmatch(name)) else name.lower() for name in answers)
    suffixes = () if in_list else ends
    labels = named.get("preferred") or (() if in_list or one else _known_labels(sample, suffixes))
    roles = {f"answer {name}": name for name in (*answers, *labels)}
    if "prompt" in named:
        known = {"prompt": named["prompt"][0]}
    else:
        known = {**prompt_roles(sample, lower, roles), **_before(sample, lower)}
        known = {role: name for role, name in known.items() if name not in (*answers, *labels)}
        if "prompt" not in known and not holds_conversation(_first_answer(sample, answers, in_list=in_list)):
            found = f"columns found: {', '.join(sample)}; none of them is known as a prompt"
            raise RowProblem("no_prompt", f"{found}. Type {setting('prompt', 'NAME', KEY)} {words_for(answers)}")
    known |= {"system": named["system"][0]} if "system" in named else {}
    return AnswerRoles(answers=answers, in_list=in_list, beside=known, labels=labels, suffixes=suffixes)


def words_for(answers: Sequence[str]) -> str:
    """Return the words to type for the answers.

    >>> words_for(("output",)), words_for(("output_1", "output_2"))
    ('candidates.columns.responses=output', "'candidates.columns.responses=[output_1,output_2]'")
    """
    if len(answers) == 1:
        return setting("responses", answers[0], KEY)
    names = [name if SIMPLE.fullmatch(name) else '"' + name.replace('"', '\\"') + '"' for name in answers]
    return shlex.quote(f"{KEY}.responses=[{','.join(names)}]")


def texts_of_list(value: Any) -> Any:
    """Return a list of answers; None where a value is something else: turns are a conversation.

    It may be written as text, in JSON or as Python writes one, or as an object with a text for each model.

    >>> texts_of_list("['a', 'b']"), texts_of_list({"gpt": "a", "mistral": "b"}), texts_of_list({"text": "a", "model": "gpt"})
    (['a', 'b'], ['a', 'b'], None)
    """
    if isinstance(value, str):
        value = listed_in_text(value)
    if isinstance(value, dict) and len(value) > 1 and value.keys().isdisjoint((*ANSWER_KEYS, "role", "from")):
        value = list(value.values()) if all(isinstance(item, str) for item in value.values()) else value
    if not isinstance(value, list) or is_turns(value) or not all(isinstance(item, str | dict | list) for item in value):
        return None
    return value


def listed_in_text(text: str) -> Any:
    """Return the list or object that a text writes; the text itself where it writes none."""
    value = parsed(text)
    if value is text and text.lstrip().startswith("["):  # as pandas writes a list into a .csv file
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return ast.literal_eval(text.strip())  # literals only: nothing is run
    return value


def listed(row: Row, path: str) -> Any:
    """Return the list of answers of a row, or the values of a key of the objects in a list; `ABSENT` where there is none.

    >>> listed({"completions": [{"text": "Yes."}, {"text": "No."}]}, "completions.text")
    ['Yes.', 'No.']
    """
    value = value_at(row, path)
    name, dot, key = path.rpartition(".")
    if value is ABSENT and dot and isinstance(items := texts_of_list(value_at(row, name)), list):
        return [value_at(item, key) if isinstance(item, dict) else ABSENT for item in items]
    return value


def refuse_absent(columns: AnswerColumns, sample: Row, place: str) -> None:
    """Raise DataError if a column that the user names is in none of the rows."""
    for role, paths in columns.named.items():
        for path in paths:
            found = listed(sample, path)
            if found is ABSENT or (isinstance(found, list) and ABSENT in found):
                known = paths_in(sample)
                meant = column_meant(role, path, known)
                remedy = f"Did you mean {setting(role, meant, KEY)}?" if meant else f"Name one of these as {KEY}.{role}=COLUMN"
                raise DataError(
                    f"{KEY}.{role}={path}: {place} has no such column; it has {', '.join(known)}. {remedy}", code="no_column"
                )


def is_pair(sample: Row, columns: AnswerColumns) -> bool:
    """Return whether the rows have a better and a worse answer by known names and no list of answers."""
    if columns.named or _choices(sample):
        return False
    try:
        return answer_roles(sample, {name.lower(): name for name in reversed(sample)}, {}).keys() >= NO_ANSWER
    except RowProblem:
        return False


def _known_answers(sample: Row) -> tuple[str, ...]:
    choices = _choices(sample)
    if len(choices) == 1:
        return choices[0]
    columns = f"columns found: {', '.join(sample) or '(none)'}"
    if choices:
        ways = "; or ".join(map(words_for, choices))
        raise RowProblem("ambiguous_columns", f"{columns}; several can be the answers. Type which: {ways}")
    single = [name for name, value in sample.items() if isinstance(value, str) and last_word(name) in ANSWER_WORDS]
    alone = f"; {single[0]} holds one answer, and ranking compares answers to one prompt" if len(single) == 1 else ""
    several = f"{words_for(('NAME', 'NAME'))} for one answer in each column"
    words = f"{setting('responses', 'NAME', KEY)} for a list of answers, or {several}"
    raise RowProblem("unknown_layout", f"{columns}; none is known as several answers{alone}. Type {words}")


def _known_answer(sample: Row) -> tuple[str]:
    """Return the one column that can hold one answer in each row; RowProblem if there is none, or several."""
    texts = [
        name for name, value in sample.items() if last_word(name) in ANSWER_WORDS and (isinstance(value, str) or is_turns(value))
    ]
    known = list(dict.fromkeys([name for choice in _choices(sample) for name in choice] + texts))
    if len(known) == 1:
        return (known[0],)
    columns = f"columns found: {', '.join(sample) or '(none)'}"
    if known:
        ways = "; or ".join(words_for((name,)) for name in known)
        raise RowProblem("ambiguous_columns", f"{columns}; several can be the answer. Type which: {ways}")
    raise RowProblem("unknown_layout", f"{columns}; none is known as an answer. Type {setting('responses', 'NAME', KEY)}")


def _choices(sample: Row) -> list[tuple[str, ...]]:
    """Return the columns that can be the answers: every list of answers, and every family of numbered columns."""
    lists = [
        (name,)
        for name, value in sample.items()
        if last_word(name) in ANSWER_WORDS and (BETTER | WORSE).isdisjoint(words_of(name)) and texts_of_list(value)
    ]
    families: dict[str, list[tuple[str, str]]] = {}
    for name, value in sample.items():
        match = NUMBERED.fullmatch(name)
        if match and last_word(match[1]) in ANSWER_WORDS and not isinstance(value, int | float):
            families.setdefault(match[1].lower(), []).append((match[2].lower(), name))
    numbered = [
        tuple(name for _, name in members)
        for members in families.values()
        if len(members) > 1 and members[0][0] in ("0", "1", "a")
    ]
    return lists + numbered


def _known_labels(sample: Row, suffixes: Sequence[str]) -> tuple[str, ...]:
    """Return the columns with what people prefer; RowProblem if columns of different names can be it.

    A column that holds something else under such a name does not count.
    """
    families: dict[str, list[str]] = {}
    for column in sample:
        stem = column.lower().rstrip("0123456789").rstrip("_ -")
        if stem in LABELS and position_of(sample[column], suffixes, ()) is not None:
            families.setdefault(stem, []).append(column)
    if len(families) > 1:
        names = [column for columns in families.values() for column in columns]
        ways = "; or ".join(setting("preferred", name, KEY) for name in names)
        raise RowProblem(
            "ambiguous_columns", f"the columns {', '.join(names)} can all say which answer is preferred. Type which: {ways}"
        )
    return next(map(tuple, families.values()), ())


def _before(sample: Row, lower: Mapping[str, str]) -> dict[str, str]:
    """Return the columns of a system turn and of earlier turns."""
    system = next((lower[name] for name in SYSTEMS if name in lower and isinstance(sample[lower[name]], str)), None)
    history = {"history": lower["history"]} if isinstance(sample.get(lower.get("history", "")), list) else {}
    return {**history, **({"system": system} if system else {})}


def _first_answer(sample: Row, answers: Sequence[str], *, in_list: bool) -> Any:
    value = listed(sample, answers[0])
    return value[0] if in_list and isinstance(value, list) and value else value
