"""Formats that write whole conversations into text, with a mark before each turn."""

import re
from collections.abc import Callable
from itertools import pairwise

from dpo_lab.data.formats.base import Parts, RowFormat
from dpo_lab.data.formats.conversations import both, from_two
from dpo_lab.data.problems import RowProblem, excerpt
from dpo_lab.data.turns import ROLES, turns_of
from dpo_lab.records import Message, PreferencePair

HH_START = re.compile(r"\A\s*Human:")
HH_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")

RENDERED = {
    "chatml": re.compile(r"<\|im_start\|>(?P<role>\w+)\n(?P<text>.*?)(?:<\|im_end\|>\s*|\Z)", re.DOTALL),
    "llama3": re.compile(
        r"<\|start_header_id\|>(?P<role>\w+)<\|end_header_id\|>\n\n(?P<text>.*?)(?:<\|eot_id\|>\s*|\Z)", re.DOTALL
    ),
    "gemma": re.compile(r"<start_of_turn>(?P<role>\w+)\n(?P<text>.*?)(?:<end_of_turn>\s*|\Z)", re.DOTALL),
}
"""A turn as chat templates write it that name the role of every turn."""
BEGIN_TOKENS = re.compile(r"\A\s*(?:<\|begin_of_text\|>|<bos>|<s>)?\s*")


def hh_turns(row: Parts, role: str) -> list[Message]:
    """Return the turns of a transcript `Human: ... Assistant: ...`; one space after a colon is markup."""
    start, *parts = HH_TURN.split(row.text(role))
    if start.strip():
        raise RowProblem("prompt_mismatch", f"{row.name(role)} begins with {excerpt(start)}, not with 'Human:'")
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[speaker], "content": text.removeprefix(" ")} for speaker, text in zip(parts[::2], parts[1::2], strict=True)
    ]


def rendered_turns(row: Parts, role: str) -> list[Message]:
    """Return the turns of a text that a chat template rendered."""
    text = row.text(role)
    style = style_of(text)
    if not text.strip():
        return []
    if style is None:
        raise RowProblem("mixed_formats", f"{row.name(role)} is {excerpt(text)}, and not a whole rendered conversation")
    return turns_of([{"role": turn["role"], "content": turn["text"]} for turn in RENDERED[style].finditer(text)], row.name(role))


def style_of(text: str) -> str | None:
    """Return which templates of `RENDERED` write a text, from its first character to its last; None for none.

    >>> style_of("<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\nHello<|im_end|>"), style_of("see <|im_start|>user")
    ('chatml', None)
    """
    text = text[BEGIN_TOKENS.match(text).end() :]  # type: ignore[union-attr]  # the pattern matches every text
    for style, turn in RENDERED.items():
        turns = list(turn.finditer(text))
        if turns and turns[0].start() == 0 and all(a.end() == b.start() for a, b in pairwise(turns)):
            return style if turns[-1].end() == len(text) and all(each["role"].lower() in ROLES for each in turns) else None
    return None


def of_turns(turns: Callable[[Parts, str], list[Message]]) -> Callable[[Parts], PreferencePair]:
    """Return the reader of two transcripts that must agree in all turns but the last."""
    return lambda row: from_two(row, turns(row, "chosen"), turns(row, "rejected"))


TRANSCRIPTS = (
    RowFormat(
        name="hh_transcript",
        columns=("system",),
        recognises=lambda row: (
            "prompt" not in row.values
            and both(row, "text")
            and any(HH_START.match(row.text(role)) for role in ("chosen", "rejected"))
        ),
        read=of_turns(hh_turns),
    ),
    RowFormat(
        name="rendered_conversations",
        columns=("system",),
        recognises=lambda row: (
            "prompt" not in row.values and both(row, "text") and any(style_of(row.text(role)) for role in ("chosen", "rejected"))
        ),
        read=of_turns(rendered_turns),
    ),
)
