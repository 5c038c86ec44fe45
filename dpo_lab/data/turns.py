"""Values inside a row: turns of a conversation however they are written, transcripts, text, numbers."""

import math
from collections.abc import Mapping
from typing import Any

from dpo_lab.data.inputs import refuse_inputs
from dpo_lab.data.problems import RowProblem, excerpt
from dpo_lab.data.unread import ReadTexts, unexplained
from dpo_lab.data.written import TURN_KEYS, speaks, turn_keys, written_in
from dpo_lab.records import Message

Row = dict[str, Any]

ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model"), "assistant"),
    "system": "system",
}
"""Names of roles in use, in lower case, and the role each means."""


def text_of(row: Row, name: str) -> str:
    """Return a column of text; an absent or null one is empty."""
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise RowProblem("wrong_type", f"{name} is {excerpt(value)} ({type(value).__name__}), not text")
    return value or ""


def turns_of(value: Any, name: str) -> list[Message]:
    """Return turns with the roles system, user and assistant; an empty system turn is not a system turn."""
    blank = value is None or (isinstance(value, str) and not value.strip())
    items = [] if blank else [value] if isinstance(value, dict) else value
    if not isinstance(items, list):
        raise RowProblem("wrong_type", f"{name} is {excerpt(value)} ({type(value).__name__}), not a list of turns")
    turns: list[Message] = []
    for number, item in enumerate(items, 1):
        turn = _turn(item, f"{name} turn {number}")
        if turn["role"] == "system" and not turn["content"].strip():
            continue
        if turn["role"] == "system" and turns:
            raise RowProblem("bad_roles", f"{name} turn {number} is a system turn, which may only stand first")
        turns.append(turn)
    return turns


def _turn(item: Any, place: str) -> Message:
    """Return one turn written with role and content, or with ShareGPT's from and value."""
    keys = turn_keys(item)
    if not isinstance(item, dict) or (keys is None and ("role" in item or "from" in item)):
        raise RowProblem("wrong_type", f"{place} is {excerpt(item)}, not an object with role and content")
    keys = keys or TURN_KEYS[0]
    absent = [key for key in keys if key not in item]
    if absent:
        raise RowProblem("missing_field", f"{place} has no {absent[0]!r}; its keys are {', '.join(item) or '(none)'}")
    refuse_more_of_turn(item, keys, place)
    role, content = item[keys[0]], text_of_parts(item[keys[1]], place)
    if not isinstance(role, str) or role.lower() not in ROLES:
        raise RowProblem("bad_roles", f"{place} has the role {excerpt(role)}; known are {', '.join(ROLES)}")
    if content is not None and not isinstance(content, str):
        raise RowProblem("wrong_type", f"{place} is {excerpt(content)} ({type(content).__name__}), not text")
    refuse_written(content or "", place)
    return {"role": ROLES[role.lower()], "content": content or ""}


def refuse_written(content: str, place: str) -> None:
    """Raise RowProblem if the text of a turn writes turns, or the parts of a turn, in JSON."""
    written = written_in(content)
    if written is None or written.shown or not isinstance(written.value, dict | list):
        return
    parts = [item for item in written.value if isinstance(item, dict)] if isinstance(written.value, list) else []
    in_parts = bool(parts) and all(item.keys() <= {"type", "text"} and isinstance(item.get("text"), str) for item in parts)
    if in_parts or speaks(written.value):
        what = "parts of a turn" if in_parts else "turns"
        raise RowProblem("json_text", f"the text of {place} is {excerpt(content)}, JSON that holds {what}")


def text_of_parts(content: Any, place: str) -> Any:
    """Return the text of a content that is a list of parts `{"type": "text", "text": ...}`; other contents as they are.

    Raises:
        RowProblem: a part is a picture, a sound or anything else but text.
    """
    if not isinstance(content, list) or not content or not all(isinstance(part, dict) for part in content):
        return content
    texts = []
    for number, part in enumerate(content, 1):
        text = part.get("text", part.get("value"))
        if part.get("type", "text") not in ("text", "input_text", "output_text") or not isinstance(text, str):
            raise RowProblem("unread_input", f"{place} part {number} is {excerpt(part)}, and only parts of text are read")
        refuse_inputs({str(key): value for key, value in part.items() if key not in ("type", "text")}, f"{place} part {number} ")
        texts.append(text)
    return "".join(texts)


def refuse_more_of_turn(item: Row, keys: tuple[str, str], place: str) -> None:
    """Raise RowProblem if a turn holds tool calls, pictures, a thought or other text beside its content."""
    if len(item) == len(keys):
        return
    rest = {str(key): value for key, value in item.items() if key not in keys}
    refuse_inputs(rest, f"{place} ")
    left = [key for key in unexplained(rest, ReadTexts((str(item[keys[1]]),)), strict=False) if key != "type"]
    if left:
        raise RowProblem("unread_input", f"{place} holds {', '.join(left)} beside its {keys[1]}, and that is not read")


def split_last(turns: list[Message], name: str) -> tuple[list[Message], str]:
    """Return the turns before the response, and the response."""
    if not turns:
        raise RowProblem("empty_response", f"{name} has no turns")
    if turns[-1]["role"] != "assistant":
        raise RowProblem("bad_roles", f"{name} ends with a {turns[-1]['role']} turn: no response to train on", verdict="drop")
    return turns[:-1], turns[-1]["content"]


def same_turns(turns: list[Message], others: list[Message]) -> bool:
    """Whether two lists of turns are equal but for outer whitespace."""
    return [(a["role"], a["content"].strip()) for a in turns] == [(b["role"], b["content"].strip()) for b in others]


def common_beginning(first: str, second: str) -> int:
    """Return the largest end of a common beginning after which both continue with whitespace and then text."""
    end = 0
    while end < min(len(first), len(second)) and first[end] == second[end]:
        end += 1
    for position in range(end, 0, -1):
        rests = (first[position:], second[position:])
        if not first[position - 1].isspace() and all(rest[:1].isspace() and rest.strip() for rest in rests):
            return position
    return 0


def number_of(row: Mapping[str, Any], name: str) -> float | None:
    """Return a finite number, or None where the column is absent or null."""
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf and abs(value) < 10**300:
        return float(value)
    raise RowProblem("bad_score", f"{name} is {excerpt(value)}, not a finite number")
