"""Formats whose answers or prompts are turns of a conversation."""

from dataclasses import replace

from dpo_lab.data.formats.base import Parts, RowFormat, user
from dpo_lab.data.problems import RowProblem, excerpt
from dpo_lab.data.turns import same_turns, split_last
from dpo_lab.records import Message, PreferencePair, Prompt


def from_canonical(row: Parts) -> PreferencePair:
    """Return the pair of a record that `PreferencePair.to_record` wrote, but for the drawn tokens: another model has others."""
    rendered = row.values["rendered"]
    if not isinstance(rendered, bool):
        raise RowProblem("wrong_type", f"rendered is {excerpt(rendered)}, neither true nor false")
    finished = row.values.get("finished") or [True, True]
    if not isinstance(finished, list) or [type(flag) for flag in finished] != [bool, bool]:
        raise RowProblem("wrong_type", f"finished is {excerpt(finished)}, not two of true and false")
    pair = replace(from_explicit(row), finished=tuple(finished))
    if not rendered:
        return pair
    if [turn["role"] for turn in pair.prompt.messages] != ["user"]:
        raise RowProblem("bad_roles", "a rendered prompt is one user turn with the whole text")
    return replace(pair, prompt=Prompt.of(pair.prompt.messages, rendered=True))


def from_explicit(row: Parts) -> PreferencePair:
    """Return the pair of prompt, chosen and rejected as turns; the responses may repeat the prompt's turns."""
    prompt = row.turns("prompt")
    responses = []
    for role in ("chosen", "rejected"):
        before, response = split_last(row.turns(role), row.name(role))
        if before and not same_turns(before, prompt):
            places = f"the turns in {row.name(role)} before its last are not those of {row.name('prompt')}"
            raise RowProblem("prompt_mismatch", f"{places}: {first_difference(before, prompt)}")
        responses.append(response)
    return row.pair(prompt, *responses)


def from_turns_and_texts(row: Parts) -> PreferencePair:
    """Return the pair of a prompt of turns and two answers of text."""
    return row.pair(row.turns("prompt"), row.text("chosen"), row.text("rejected"))


def from_implicit(row: Parts) -> PreferencePair:
    """Return the pair of two whole conversations; a prompt column of text must be their first or last user turn.

    Conversations of one assistant turn take that text as the user turn.
    """
    chosen, rejected = (row.turns(role) for role in ("chosen", "rejected"))
    if not row.kind("prompt"):
        return from_two(row, chosen, rejected)
    text = row.text("prompt")
    if len(chosen) == 1 and len(rejected) == 1:
        return row.pair(
            [user(text)], *(split_last(turns, role)[1] for turns, role in ((chosen, "chosen"), (rejected, "rejected")))
        )
    pair = from_two(row, chosen, rejected)
    asked = [turn["content"].strip() for turn in pair.prompt.messages if turn["role"] == "user"]
    if text.strip() not in (asked[:1] + asked[-1:]):
        raise RowProblem("prompt_mismatch", f"{row.name('prompt')} is {excerpt(text)}, which the conversations do not ask")
    return pair


def from_conversation_and_text(row: Parts) -> PreferencePair:
    """Return the pair of a conversation that ends with the chosen answer, and the text of the rejected one."""
    prompt, answer = split_last(row.turns("chosen"), row.name("chosen"))
    return row.pair(prompt, answer, row.text("rejected"))


def from_two(row: Parts, chosen: list[Message], rejected: list[Message]) -> PreferencePair:
    """Return the pair of two conversations that must agree in all turns but the last."""
    prompt, answer = split_last(chosen, row.name("chosen"))
    other_prompt, other_answer = split_last(rejected, row.name("rejected"))
    if not same_turns(prompt, other_prompt):
        names = f"{row.name('chosen')} and {row.name('rejected')}"
        raise RowProblem("prompt_mismatch", f"{names} differ before their last turns: {first_difference(prompt, other_prompt)}")
    return row.pair(prompt, answer, other_answer)


def first_difference(turns: list[Message], others: list[Message]) -> str:
    """Return which turn of two lists differs first, and how.

    >>> first_difference([user("a"), user("b")], [user("a"), user("c")])
    "turn 2 is user 'b' in one and user 'c' in the other"
    """
    at = next((at for at in range(min(len(turns), len(others))) if not same_turns([turns[at]], [others[at]])), None)
    if at is None:
        return f"one has {len(turns)} turns before the answer and the other {len(others)}"
    one, other = (f"{side[at]['role']} {excerpt(side[at]['content'], 40)}" for side in (turns, others))
    return f"turn {at + 1} is {one} in one and {other} in the other"


def both(row: Parts, kind: str) -> bool:
    """Return whether both answers hold this kind, or nothing."""
    return {row.kind("chosen"), row.kind("rejected")} - {""} == {kind}


def has_turns(row: Parts) -> bool:
    """Return whether the prompt is written as turns, if only as an empty list."""
    return isinstance(row.values.get("prompt"), list | dict)


CONVERSATIONS = (
    RowFormat(
        name="canonical",
        columns=("prompt", "rendered"),
        recognises=lambda row: "rendered" in row.values and has_turns(row) and both(row, "turns"),
        read=from_canonical,
    ),
    RowFormat(
        name="trl_conversational_explicit",
        columns=("prompt", "system", "history"),
        recognises=lambda row: has_turns(row) and both(row, "turns"),
        read=from_explicit,
    ),
    RowFormat(
        name="turns_and_texts",
        columns=("prompt", "system", "history"),
        texts=("chat",),
        recognises=lambda row: has_turns(row) and both(row, "text"),
        read=from_turns_and_texts,
    ),
    RowFormat(
        name="trl_conversational_implicit",
        columns=("prompt", "system", "history"),
        recognises=lambda row: both(row, "turns"),
        read=from_implicit,
    ),
    RowFormat(
        name="conversation_and_text",
        columns=("system",),
        texts=("chat",),
        recognises=lambda row: not row.kind("prompt") and (row.kind("chosen"), row.kind("rejected")) == ("turns", "text"),
        read=from_conversation_and_text,
    ),
)
