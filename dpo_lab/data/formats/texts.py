"""Formats whose prompt and answers are text."""

from dpo_lab.data.columns import setting
from dpo_lab.data.formats.base import Parts, RowFormat, user
from dpo_lab.data.formats.conversations import both
from dpo_lab.data.problems import RowProblem, excerpt
from dpo_lab.data.turns import common_beginning
from dpo_lab.records import PreferencePair

MARKS = ("\n", ":", "?")
"""What a beginning has that is a question and not only the first words of two answers."""


def from_instruction(row: Parts) -> PreferencePair:
    """Return the pair of a question and two answers; the prompt is one user turn, instruction and input two newlines apart."""
    instruction, context = row.text("prompt"), row.text("input")
    text = f"{instruction}\n\n{context}" if context.strip() else instruction
    return row.pair([user(text)], row.text("chosen"), row.text("rejected"))


def from_plain_explicit(row: Parts) -> PreferencePair:
    """Return the pair of prompt, chosen and rejected as text that never meets a chat template."""
    return row.pair([user(row.text("prompt"))], row.text("chosen"), row.text("rejected"), rendered=True)


def from_plain_implicit(row: Parts) -> PreferencePair:
    """Return the pair of two whole texts, whose common beginning is the prompt.

    No mark says where the prompt ends. Taken is the longest common beginning after which both texts continue with
    whitespace, as in TRL, so no response begins inside a word; words that both responses share at their start fall to
    the prompt, where they are not trained. Give a prompt column where that matters.

    >>> pair = from_plain_implicit(Parts({"chosen": "Q: 7 + 8?\\nA: It is 15.", "rejected": "Q: 7 + 8?\\nA: It is 16."}))
    >>> pair.prompt.text, pair.chosen, pair.rejected
    ('Q: 7 + 8?\\nA: It is', ' 15.', ' 16.')
    """
    chosen, rejected = row.text("chosen"), row.text("rejected")
    if not chosen.strip() or not rejected.strip():
        raise RowProblem("empty_response", f"{row.name('rejected' if chosen.strip() else 'chosen')} has no text")
    if chosen.strip() == rejected.strip():
        raise RowProblem("chosen_equals_rejected", f"{row.name('chosen')} and {row.name('rejected')} are the same text")
    end = common_beginning(chosen, rejected)
    names = f"{row.name('chosen')} and {row.name('rejected')}"
    if not end:
        raise RowProblem("empty_prompt", f"{names} have no word in common at their start, and there is no prompt column")
    if "accepted" not in row.values and not any(mark in chosen[:end].strip() for mark in MARKS):
        shared = (
            f"{excerpt(chosen[:end])}, the beginning that {names} share, does not look like a prompt: "
            "it has no question mark, colon or line end"
        )
        words = " ".join(setting(role, row.name(role)) for role in ("chosen", "rejected"))
        raise RowProblem("no_prompt", f"{shared}. If it is the prompt, type {words}")
    return row.pair([user(chosen[:end])], chosen[end:], rejected[end:], rendered=True)


TEXTS = (
    RowFormat(
        name="instruction",
        columns=("prompt", "input", "system", "history"),
        texts=("chat",),
        recognises=lambda row: "prompt" in row.values and row.is_question and both(row, "text"),
        read=from_instruction,
    ),
    RowFormat(
        name="trl_plain_explicit",
        columns=("prompt",),
        texts=("plain",),
        recognises=lambda row: "prompt" in row.values and both(row, "text"),
        read=from_plain_explicit,
    ),
    RowFormat(
        name="trl_plain_implicit",
        columns=(),
        texts=("plain",),
        recognises=lambda row: both(row, "text"),
        read=from_plain_implicit,
        takes_beginning=True,
    ),
)
