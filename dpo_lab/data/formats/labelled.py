"""Formats with one answer to a prompt, which is labelled as desirable or not."""

from collections.abc import Mapping

from dpo_lab.data.formats.base import Parts, Row, RowFormat, user
from dpo_lab.data.problems import RowProblem, excerpt
from dpo_lab.data.turns import same_turns, split_last
from dpo_lab.records import Label, Message


def labelled_columns(row: Row, lower: Mapping[str, str]) -> dict[str, str]:
    """Return the columns of TRL's unpaired format, whose label is true or false.

    >>> labelled_columns({"prompt": "Why?", "completion": "So.", "label": True}, {"completion": "completion", "label": "label"})
    {'completion': 'completion', 'label': 'label'}
    """
    if "completion" in lower and isinstance(row.get(lower.get("label", "")), bool):
        return {"completion": lower["completion"], "label": lower["label"]}
    return {}


def from_labelled(row: Parts) -> Label:
    """Return the labelled answer; text of a prompt that asks is a user turn, any other text never meets a chat template."""
    label = row.values["label"]
    if not isinstance(label, bool):
        raise RowProblem("wrong_type", f"{row.name('label')} is {excerpt(label)}, neither true nor false")
    turns, answer = asked_and_answered(row)
    rendered = row.kind("prompt") != "turns" and not row.is_question
    return Label(prompt=row.asked(turns, rendered=rendered), response=answer, desirable=label)


def asked_and_answered(row: Parts) -> tuple[list[Message], str]:
    """Return the prompt's turns and the answer; an answer of turns may repeat those of the prompt."""
    if row.kind("completion") != "turns":
        turns = row.turns("prompt") if row.kind("prompt") == "turns" else [user(row.text("prompt"))]
        return turns, row.text("completion")
    if row.kind("prompt") == "text":
        raise RowProblem("wrong_type", f"{row.name('prompt')} is text and {row.name('completion')} is turns")
    before, answer = split_last(row.turns("completion"), row.name("completion"))
    turns = row.turns("prompt")
    if before and not same_turns(before, turns):
        places = f"the turns in {row.name('completion')} before its last"
        raise RowProblem("prompt_mismatch", f"{places} are not those of {row.name('prompt')}")
    return turns, answer


LABELLED = (
    RowFormat(
        name="trl_unpaired",
        answers=("completion", "label"),
        answers_of=labelled_columns,
        columns=("prompt", "system", "history"),
        texts=("chat", "plain"),
        recognises=lambda row: "label" in row.values,
        read=from_labelled,
    ),
)
