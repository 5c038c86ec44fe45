"""Which column of a row is the prompt, the better and the worse answer: by known names, or as the user says."""

from collections.abc import Mapping
from typing import Any

from dpo_lab.data.columns import ABSENT, Columns, Row, value_at
from dpo_lab.data.formats import FORMATS
from dpo_lab.data.formats.scores import SCORE_COLUMNS
from dpo_lab.data.json_text import unwrapped
from dpo_lab.data.kinds import is_empty
from dpo_lab.data.problems import RowProblem
from dpo_lab.data.unread import last_word
from dpo_lab.data.written import is_turns

ANSWER_PAIRS = (
    ("chosen", "rejected"),
    ("preferred_output", "non_preferred_output"),  # OpenAI, Azure Foundry, Together
    ("response", "rejected_response"),  # ms-swift 2
    ("messages", "rejected_messages"),  # ms-swift 3: the conversation ends with the chosen answer
    ("messages", "rejected_response"),
    ("output", "rejected_answer"),  # H2O LLM Studio
)
"""Names of the better and the worse answer in known data; beside them every `chosen_X` with `rejected_X`, and so on."""
TURN_PROMPTS = ("messages", "conversations", "conversation", "context", "input")
"""Names of prompts that are turns; text under them is not a known prompt."""
QUESTIONS = ("instruction", "question", "query", "input")
"""Names of prompts that are text of a user turn."""
SYSTEMS = ("system", "system_prompt", "system_message")
KEPT = frozenset(("rendered", "finished", "preference", *SCORE_COLUMNS))
"""Columns that are read under their own names beside the answers."""


def roles_of(row: Row, columns: Columns) -> dict[str, str]:
    """Return the column of each role: prompt, chosen, rejected, ranked, system, history, input.

    Args:
        row: a row, or the first values of the columns of several.
        columns: what the user says; a prompt that is named is the whole prompt, without system, history and input of known names.

    Raises:
        RowProblem: the row has no two answers that can be told apart.
    """
    named = {role: path for role, path in columns.named.items() if not role.startswith("score")}
    lower = {name.lower(): name for name in reversed(row)}
    roles = {**answer_roles(row, lower, named), **named}
    if "prompt" in named:
        return roles
    known = prompt_roles(row, lower, roles)
    system = next((lower[name] for name in SYSTEMS if name in lower and isinstance(row[lower[name]], str)), None)
    known |= {"system": system} if system else {}
    if isinstance(row.get(lower.get("history", "")), list):
        known["history"] = lower["history"]
    return {**known, **roles}


def answer_roles(row: Row, lower: Mapping[str, str], named: Mapping[str, str]) -> dict[str, str]:
    """Return the columns of the answers: of a better and a worse one, of which the user may name one, or those of a format."""
    if named.keys() >= {"chosen", "rejected"}:
        return {}
    for chosen, rejected in (ANSWER_PAIRS[0], *pairs_by_name(row, lower), *ANSWER_PAIRS[1:]):
        if all(role in named or name in lower for role, name in (("chosen", chosen), ("rejected", rejected))):
            return {"chosen": named.get("chosen") or lower[chosen], "rejected": named.get("rejected") or lower[rejected]}
    for each in FORMATS if not named else ():
        if each.answers_of and (roles := each.answers_of(row, lower)):
            return roles
    absent = [name for name in ("chosen", "rejected") if name not in lower and name not in named]
    if len(absent) == 1:
        raise RowProblem("missing_field", f"no {absent[0]!r} among the columns {', '.join(row)}")
    raise RowProblem("unknown_layout", f"columns found: {', '.join(row) or '(none)'}")


def pairs_by_name(row: Row, lower: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the pairs of columns that differ in chosen and rejected alone and hold something other than numbers.

    >>> row = {"chosen_reply": "a", "rejected_reply": "b", "chosen_score": 1.0, "rejected_score": 0.0}
    >>> pairs_by_name(row, {name: name for name in row})
    [('chosen_reply', 'rejected_reply')]
    """
    found = []
    for name in lower:
        other = name.replace("chosen", "rejected")
        if other == name or name == "chosen" or other not in lower or last_word(name) in ("model", "score", "rating", "reward"):
            continue
        if all(isinstance(row[lower[column]], str | list | dict) for column in (name, other)):
            found.append((name, other))
    return found


def prompt_roles(row: Row, lower: Mapping[str, str], roles: Mapping[str, str]) -> dict[str, str]:
    """Return the column of the prompt, and of the input beside an instruction; none where the answers hold the conversation."""
    free = {name: column for name, column in lower.items() if column not in roles.values()}
    if "prompt" in free:
        return {"prompt": free["prompt"]}
    if "chosen" in roles and holds_conversation(value_at(row, roles["chosen"])):
        return {}
    for name in TURN_PROMPTS:
        if name in free and is_turns(unwrapped_or_none(row[free[name]], free[name])):
            return {"prompt": free[name]}
    for name in QUESTIONS:
        if name in free and (row[free[name]] is None or isinstance(row[free[name]], str)):
            more = {"input": free["input"]} if name == "instruction" and "input" in free else {}
            return {"prompt": free[name], **more}
    return {}


def holds_conversation(value: Any) -> bool:
    """Return whether an answer is a conversation with the turns before it."""
    turns = unwrapped_or_none(value, "")
    return isinstance(turns, list) and len(turns) > 1 and is_turns(turns)


def unwrapped_or_none(value: Any, name: str) -> Any:
    """Return what a column holds, None where it cannot be said."""
    try:
        return None if value is ABSENT or is_empty(value) else unwrapped(value, name)
    except RowProblem:
        return None
