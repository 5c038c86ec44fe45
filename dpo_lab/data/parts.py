"""The parts of one row, taken out of its columns: prompt, chosen, rejected and what belongs to them."""

from collections.abc import Mapping
from typing import Any

from dpo_lab.data.columns import ABSENT, Columns, Row, value_at
from dpo_lab.data.formats.base import Parts
from dpo_lab.data.json_text import answer_of, refuse_told, unwrapped
from dpo_lab.data.kinds import is_empty
from dpo_lab.data.mapping import explained_mapping, mapping_for
from dpo_lab.data.problems import RowProblem
from dpo_lab.data.roles import KEPT, QUESTIONS, TURN_PROMPTS
from dpo_lab.data.turns import turns_of
from dpo_lab.data.written import is_shown, is_turns, parsed, turn_keys

TEXTS = ("prompt", "chosen", "rejected", "completion")


def asks(sample: Row, roles: Mapping[str, str], columns: Columns) -> bool:
    """Return whether text in the prompt is what a user asks; under the name prompt it is plain, unless turns precede it."""
    if columns.text:
        return columns.text == "chat"
    more = any(not is_empty(value_at(sample, roles[role])) for role in ("system", "history") if role in roles)
    return more or roles.get("prompt", "").rpartition(".")[2].lower() != "prompt"


def parts_of(row: Row, roles: Mapping[str, str], columns: Columns, named: Mapping[str, str], *, is_question: bool) -> Parts:
    """Return the parts of a row by role, out of JSON text, lists and objects.

    Args:
        row: the row.
        roles: the column of each role.
        columns: what the user says.
        named: `columns.named`, made once for all rows.
        is_question: text of the prompt is a user turn.

    Raises:
        RowProblem: a column holds JSON that is not turns, several texts, or an object of unknown keys; with what to type.
    """
    values: dict[str, Any] = {name: row[name] for name in KEPT if name in row}
    for role, path in roles.items():
        value = value_at(row, path)
        if role not in TEXTS:
            values[role] = None if value is ABSENT else system_text(value, path) if role == "system" else value
            continue
        try:
            if role != "prompt" and not columns.text:
                refuse_told(value, path)
            value = (
                None
                if value is ABSENT
                else unwrapped(
                    value, path, literal=bool(columns.text) or (role == "prompt" and is_question), said=bool(columns.text)
                )
            )
            if isinstance(value, dict) and value and not turn_keys(value):
                value, score = answer_of(value, path)
                values |= {f"score_{role}": score} if score is not None and role != "prompt" else {}
        except RowProblem as problem:
            raise with_mapping(problem, row, columns, role) from None
        values[role] = value
    for role in named.keys() & {"score_chosen", "score_rejected"}:
        value = value_at(row, named[role])
        values[role] = None if value is ABSENT else value
    if "chosen" in named and "rejected" in named:
        values["accepted"] = True
    return Parts(values, dict(roles), is_question)


def system_text(value: Any, path: str) -> Any:
    """Return the text of a system column, out of a list of one text or a system turn; other values as they are."""
    value = unwrapped(value, path, literal=True)
    turns = turns_of(value, path) if is_turns(value) else []
    return turns[0]["content"] if len(turns) == 1 and turns[0]["role"] == "system" else value


def with_mapping(problem: RowProblem, row: Row, columns: Columns, role: str = "") -> RowProblem:
    """Return a problem whose message says what to type."""
    if problem.code == "json_text":
        words = literal_words(row, columns, role)
    elif problem.code == "several_values":
        at = problem.found.partition("; ")[2].partition(" is the first")[0]
        words = f"Type {mapping_for(row, {**columns.named, role: at})}"
    elif problem.code == "missing_field":
        words = f"If another column holds it, type {mapping_for(row, columns.named)}"
    else:
        words = explained_mapping(row, columns.named)
    return RowProblem(problem.code, f"{problem.found}. {words}", verdict=problem.verdict)


def literal_words(row: Row, columns: Columns, role: str) -> str:
    """Return what to type for JSON that is not turns: that it is the text itself, or which key of it holds the text."""
    path = columns.named.get(role) or next((name for name in row if name.lower() == role), role)
    text = value_at(row, path)
    value = parsed(text) if isinstance(text, str) else text
    without = {other: name for other, name in columns.named.items() if other != role}
    words = []
    if value is not text or is_shown(text):
        asked = [value for name, value in row.items() if name.lower() in ("prompt", *TURN_PROMPTS, *QUESTIONS)]
        plain = (
            ""
            if any(is_turns(each) for each in asked)
            else ", or data.columns.text=plain for text that never meets a chat template"
        )
        words.append(f"If the model should write it, type data.columns.text=chat{plain}" if asked else "Add a column prompt")
    if isinstance(value, dict) and any(isinstance(item, str) for item in value.values()):
        words.append(f"If the text is in the JSON, type {mapping_for(row, without)}")
    return ". ".join(words) or "No setting reads it"
