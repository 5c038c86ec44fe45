"""What a chat template makes of an answer: it writes it as it is, adds to it, rewrites it, or cannot write it.

Generation starts from a prompt that the template renders. What is trained is what the model has to generate from there, so
an answer stands directly behind the prompt, whatever the template does with answers of earlier turns.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from jinja2.exceptions import TemplateError

from dpo_lab.models.tokenizer import MARK
from dpo_lab.records import Message

TAG = re.compile(r"[<\[](/?)(\w+)[>\]]")

PIECE = re.compile(r"<[^<>\s]{1,80}>|\[[^\[\]\s]{1,80}\]|\w+")
"""A piece of a header that is shown whole: a mark or a word."""

Treatment = Literal["as_written", "template_adds", "template_rewrites", "unanswered_opening", "other_header"]
UNTRAINABLE: tuple[Treatment, ...] = ("unanswered_opening", "other_header")
"""What makes an answer one that the model would never have to generate."""


@dataclass(frozen=True)
class Rendering:
    """A prompt with an answer, as one text."""

    text: str
    """Begins with the text that generation starts from."""
    content_end: int
    """Where the answer ends in it; the template's end token may follow."""
    treatment: Treatment = "as_written"
    template_text: str = ""
    """What the template adds before the answer, or what its generation prompt opens and the answer does not continue."""


class Template:
    """A tokenizer's chat template."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def render(self, turns: Sequence[Message], *, generation: bool = False) -> str:
        """Return turns as the template writes them; `generation` adds the beginning of an answer."""
        text: str = self.tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=generation)
        return text

    def continued(self, turns: Sequence[Message]) -> str:
        """Return the text up to which an answer continues the last turn, which is the assistant's.

        Raises:
            TemplateError: if the template drops what stands there.
        """
        before, mark, _ = self.render(_answered(turns, MARK)).rpartition(MARK)
        if not mark:
            raise TemplateError("the template drops the end of the last turn")
        return before

    def answered(self, turns: Sequence[Message], start: str, answer: str) -> Rendering:
        """Return the prompt that generation starts from, with an answer behind it.

        Args:
            start: the text that generation starts from.
            answer: the answer without outer white space and without end token.
        """
        text = self._rendered(_answered(turns, answer)) or ""
        if text.startswith(start):
            if end := _behind(text, start, answer):
                return Rendering(text, end)
            before, mark, after = (self._rendered(_answered(turns, MARK)) or "").rpartition(MARK)
            added = before[len(start) :] if mark and before.startswith(start) else ""
            if added and text == before + answer + after and not doubles(added, answer):
                return Rendering(text, len(before) + len(answer), "template_adds", added)
        opening = "" if turns[-1]["role"] == "assistant" else self._opening(turns, start)
        rest = rest_of(answer, opening)
        if rest is None:
            treatment: Treatment = "unanswered_opening" if TAG.search(opening) or self._extends(opening) else "other_header"
            return Rendering(start + answer, len(start) + len(answer), treatment, opening)
        if text.startswith(start) and (end := _behind(text, start, rest)):
            return Rendering(text, end)
        header, tail, generated = self._plain
        added = header.removeprefix(generated) if header.startswith(generated) else ""
        goes_on = opening or added.strip() or turns[-1]["role"] == "assistant"
        begun = start if goes_on else start + added
        return Rendering(begun + rest + tail, len(begun) + len(rest), "template_rewrites")

    def _opening(self, turns: Sequence[Message], start: str) -> str:
        """Return what the generation prompt says already where an answer of an earlier turn begins with nothing of the kind.

        It is what a conversation with an answer does not have there, or what the template closes at once: `<think>` for
        instance.
        """
        generated = start[_shared(self._rendered(turns) or "", start) :]
        header = self._plain[0]
        if header.startswith(generated):
            closed = [match[2] for match in TAG.finditer(header[len(generated) :]) if match[1]]
            opened = [match for match in TAG.finditer(generated) if not match[1] and match[2] in closed]
            return generated[opened[-1].start() :] if opened else ""
        border = _shared(generated, header)
        inside = (match.start() for match in PIECE.finditer(generated) if match.start() < border < match.end())
        return generated[next(inside, border) :]

    def _extends(self, opening: str) -> bool:
        """Return whether the generation prompt is the header of an answer and this opening, which the answer then continues."""
        header, _, generated = self._plain
        return generated.removesuffix(opening).strip() == header.strip()

    @cached_property
    def _plain(self) -> tuple[str, str, str]:
        """What the template writes before and after a plain answer, and what it lets an answer begin with at generation."""
        asked: list[Message] = [{"role": "user", "content": "a"}]
        question, generation = self._rendered(asked) or "", self._rendered(asked, generation=True) or ""
        header, mark, tail = (self._rendered(_answered(asked, MARK)) or "").rpartition(MARK)
        shared = _shared(question, generation)
        return (header[shared:], tail, generation[shared:]) if mark else ("", "", "")

    def _rendered(self, turns: Sequence[Message], *, generation: bool = False) -> str | None:
        """Return turns as the template writes them, None if it refuses them."""
        try:
            return self.render(turns, generation=generation)
        except TemplateError:
            return None


def rest_of(answer: str, opening: str) -> str | None:
    """Return what a model still has to write of an answer after the generation prompt has begun it; None if it begins otherwise.

    >>> rest_of("<think> Hm. </think> Yes.", "<think>\\n"), rest_of("Hm. </think> Yes.", "<think>\\n")
    ('Hm. </think> Yes.', 'Hm. </think> Yes.')
    >>> rest_of("Yes.", "<think></think>"), rest_of("Yes.", "<think>\\n"), rest_of("<think>Hm.</think>Yes.", "<think></think>")
    ('Yes.', None, None)
    >>> rest_of("So. <think>Hm.</think> Yes.", "<think>\\n") is None
    True
    """
    begun = opening.strip()
    if answer.startswith(begun):
        rest = answer.removeprefix(begun)
        return rest.lstrip() or None if begun else rest
    tags = list(TAG.finditer(begun))
    names = {match[2] for match in tags}
    of_answer = [(bool(match[1]), match[2]) for match in TAG.finditer(answer) if match[2] in names]
    unclosed = [name for name in names if sum(1 if not tag[1] else -1 for tag in tags if tag[2] == name) > 0]
    if unclosed:
        return answer if all((True, name) in of_answer for name in unclosed) and of_answer[0][0] else None
    return answer if tags and not of_answer else None


def doubles(added: str, answer: str) -> bool:
    """Return whether an answer has by itself what a template adds before it.

    >>> doubles("<think></think>", "<think>Hm.</think> Yes."), doubles("<think></think>", "Yes.")
    (True, False)
    """
    return not {match[2] for match in TAG.finditer(added)}.isdisjoint(match[2] for match in TAG.finditer(answer))


def _answered(turns: Sequence[Message], answer: str) -> list[Message]:
    """Return a conversation with an answer; it continues the last turn if that is the assistant's."""
    if turns[-1]["role"] == "assistant":
        return [*turns[:-1], {"role": "assistant", "content": f"{turns[-1]['content']}\n\n{answer}"}]
    return [*turns, {"role": "assistant", "content": answer}]


def _behind(text: str, start: str, answer: str) -> int:
    """Return where an answer ends that stands directly behind the start of a text, but for white space; 0 if none does."""
    begin = len(text) - len(text[len(start) :].lstrip())
    return begin + len(answer) if text.startswith(answer, begin) else 0


def _shared(one: str, other: str) -> int:
    """Return with how many of the same characters two texts begin."""
    return next(
        (at for at, (ours, theirs) in enumerate(zip(one, other, strict=False)) if ours != theirs), min(len(one), len(other))
    )
