"""Which column of a file holds what, where the user says so: names, or dotted paths into objects and lists."""

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any, Literal

from dpo_lab.components import Component, component
from dpo_lab.data.problems import DataError
from dpo_lab.data.written import is_turns, parsed
from dpo_lab.spelling import alike

Row = dict[str, Any]

TEXT_ROLES = ("prompt", "chosen", "rejected")


@component
class Columns(Component):
    """Names of columns: plain, or dotted into objects, lists and JSON text (`input.messages`, `rejected.0`).

    Without any, the known formats decide. With one, `prompt`, `chosen` and `rejected` that are not given keep their known
    names, and every other column is left out.
    """

    prompt: str | None = None
    """Text or turns that both answers answer."""
    system: str | None = None
    """Text of a system turn before the prompt."""
    chosen: str | None = None
    """The better answer: text, a turn, or a conversation that ends with it."""
    rejected: str | None = None
    """The worse answer."""
    score_chosen: str | None = None
    """Number, higher is better."""
    score_rejected: str | None = None
    """Number, higher is better."""
    text: Literal["chat", "plain"] | None = None
    """What text is: chat, a turn that the model's chat template renders; plain, text that never meets a template; null: text of
    a column that is called prompt is plain, any other is chat."""

    @property
    def named(self) -> dict[str, str]:
        """What the user names, by role."""
        roles = [field.name for field in fields(self) if field.name != "text"]
        return {role: name for role in roles if (name := getattr(self, role)) is not None}


ABSENT = object()
NEAR = 0.7  # share of equal letters from which a column is proposed for a name that is nowhere; a lower one proposes any
SIMPLE = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
"""Names that stand in a command line as they are."""


def setting(role: str, path: str, key: str = "data.columns") -> str:
    """Return what to type so that a role is read from a column, quoted for the shell and for Hydra where the name needs it.

    >>> print(setting("prompt", "input.messages"), setting("chosen", "better answer"))
    data.columns.prompt=input.messages 'data.columns.chosen="better answer"'
    """
    if SIMPLE.fullmatch(path) and path.lower() not in ("null", "true", "false", "nan", "inf"):
        return f"{key}.{role}={path}"
    escaped = path.replace('"', '\\"')
    return shlex.quote(f'{key}.{role}="{escaped}"')


def value_at(row: Row, path: str) -> Any:
    """Return the value at a column's name or a dotted path, `ABSENT` where there is none.

    >>> row = {"a.b": 1, "a": {"b": 2}, "c": [{"d": 3}], "e": '{"f": "4"}'}
    >>> [value_at(row, path) for path in ("a.b", "c.0.d", "e.f", "c.1") if value_at(row, path) is not ABSENT]
    [1, 3, '4']
    """
    if path in row:
        return row[path]
    name, dot, rest = path.partition(".")
    value: Any = row.get(name, ABSENT) if dot else ABSENT
    for key in rest.split(".") if dot else ():
        if isinstance(value, str):
            value = parsed(value)
        if isinstance(value, dict):
            value = value.get(key, ABSENT)
        elif isinstance(value, list) and key.removeprefix("-").isdigit() and -len(value) <= int(key) < len(value):
            value = value[int(key)]
        else:
            return ABSENT
    return value


def paths_in(row: Row) -> list[str]:
    """Return the names of all columns and the dotted paths into their objects and lists; turns are not taken apart.

    >>> paths_in({"id": 1, "data": {"ask": "Why?", "answers": [{"text": "a"}]}, "turns": [{"role": "user", "content": "b"}]})
    ['id', 'data', 'data.ask', 'data.answers', 'data.answers.0', 'data.answers.0.text', 'turns']
    """
    return [path for name, value in row.items() for path in paths_below(name, value)]


def paths_below(path: str, value: Any, depth: int = 4) -> Iterator[str]:
    """Yield a path and, where its value is an object, a list of several values or such in JSON text, the paths into it."""
    yield path
    value = parsed(value) if isinstance(value, str) else value
    if depth == 0 or is_turns(value):
        return
    if isinstance(value, dict):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list) and (len(value) > 1 or any(isinstance(item, dict) for item in value)):
        items = enumerate(value[:10])
    else:
        return
    for key, item in items:
        yield from paths_below(f"{path}.{key}", item, depth - 1)


def refuse_absent(columns: Columns, row: Row, place: str) -> None:
    """Raise DataError if a column that the user names is in none of the rows, which `row` shows together."""
    for role, path in columns.named.items():
        if value_at(row, path) is ABSENT:
            known = paths_in(row)
            meant = column_meant(role, path, known)
            remedy = f"Did you mean {setting(role, meant)}?" if meant else f"Name one of these as data.columns.{role}=COLUMN"
            raise DataError(
                f"data.columns.{role}={path}: {place} has no such column; it has {', '.join(known)}. {remedy}", code="no_column"
            )


def column_meant(role: str, path: str, known: Sequence[str]) -> str:
    """Return which column of those that are known was meant: one spelt like it, one that holds it, or the role's own name.

    >>> known = ["prompt", "better", "worse.0"]
    >>> [column_meant("prompt", path, known) for path in ("beter", "better.text", "frage")], column_meant("chosen", "x", known)
    (['better', 'better', 'prompt'], '')
    """
    near = alike(path, known, cutoff=NEAR)
    holders = [name for name in known if path.startswith(f"{name}.")]
    return near or next(iter([*holders[-1:], *(name for name in known if name == role)]), "")
