"""What a row format is, and the parts of a row that formats read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dpo_lab.data.formats.scores import scores_of
from dpo_lab.data.problems import RowProblem, excerpt
from dpo_lab.data.turns import number_of, same_turns, turns_of
from dpo_lab.records import Example, Message, PreferencePair, Prompt

Kind = Literal["text", "turns", ""]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Parts:
    """The columns of a row by what they are: prompt, chosen, rejected, system, history, input, scores."""

    values: dict[str, Any]
    """Values by role, out of JSON text, lists of one text and objects; a role without a column is absent."""
    names: dict[str, str] = field(default_factory=dict)
    """The column of each role, for messages."""
    is_question: bool = False
    """The prompt's text is a user turn; otherwise it never meets a chat template."""

    def name(self, role: str) -> str:
        """Return the column of a role as the file calls it."""
        return self.names.get(role, role)

    def kind(self, role: str) -> Kind:
        """Return what a role holds; nothing for null, blank text and an empty list."""
        value = self.values.get(role)
        if value is None or value == [] or (isinstance(value, str) and not value.strip()):
            return ""
        if not isinstance(value, str | list | dict):
            raise RowProblem(
                "wrong_type", f"{self.name(role)} is {excerpt(value)} ({type(value).__name__}), neither text nor turns"
            )
        return "text" if isinstance(value, str) else "turns"

    def text(self, role: str) -> str:
        """Return a role's text; an absent or null one is empty."""
        value = self.values.get(role)
        if value is not None and not isinstance(value, str):
            raise RowProblem("wrong_type", f"{self.name(role)} is {excerpt(value)} ({type(value).__name__}), not text")
        return value or ""

    def turns(self, role: str) -> list[Message]:
        """Return a role's turns."""
        return turns_of(self.values.get(role), self.name(role))

    def pair(self, prompt: list[Message], chosen: str, rejected: str, *, rendered: bool = False) -> PreferencePair:
        """Return the pair with the row's scores, its system turn and the turns before the prompt."""
        score_chosen, score_rejected = scores_of(self.values, chosen, rejected)
        preference = number_of(self.values, "preference")
        if preference is not None and not 0 <= preference <= 1:
            raise RowProblem("bad_score", f"preference is {preference}, not a probability from 0 to 1")
        return PreferencePair(
            prompt=self.asked(prompt, rendered=rendered),
            chosen=chosen,
            rejected=rejected,
            score_chosen=score_chosen,
            score_rejected=score_rejected,
            preference=preference,
        )

    def asked(self, prompt: list[Message], *, rendered: bool = False) -> Prompt:
        """Return the prompt of some turns, with the row's system turn and the turns before them."""
        return Prompt.of(prompt if rendered else self.before(prompt) + prompt, rendered=rendered)

    def before(self, prompt: list[Message]) -> list[Message]:
        """Return the turns of the columns system and history, without what the prompt's turns repeat."""
        system, history = self.text("system"), self.values.get("history")
        turns: list[Message] = history_of(history, self.name("history")) if history else []
        if turns and same_turns(turns, prompt[: len(turns)]):
            turns = []
        if system.strip():
            if prompt and prompt[0]["role"] == "system":
                if prompt[0]["content"].strip() != system.strip():
                    raise RowProblem(
                        "prompt_mismatch", f"{self.name('system')} is {excerpt(system)}, and the prompt has another system turn"
                    )
                return turns
            turns.insert(0, {"role": "system", "content": system})
        return turns


def user(text: str) -> Message:
    """Return a user turn."""
    return {"role": "user", "content": text}


def history_of(value: Any, name: str) -> list[Message]:
    """Return earlier turns that are written as turns or as pairs [question, answer]."""
    if isinstance(value, list) and all(isinstance(item, list) and len(item) == 2 for item in value):
        if not all(isinstance(text, str) for item in value for text in item):
            raise RowProblem("wrong_type", f"{name} is {excerpt(value)}, not pairs of a question and an answer")
        roles = ("user", "assistant")
        return [{"role": role, "content": text} for item in value for role, text in zip(roles, item, strict=True)]
    return turns_of(value, name)


@dataclass(frozen=True, kw_only=True)
class RowFormat:
    """One way to write pairs, labels or ranked lists in rows; all that is known of it stands here."""

    name: str
    columns: tuple[str, ...]
    """Roles that it reads, beside those of its answers, scores and preference."""
    recognises: Callable[[Parts], bool]
    """Whether a row that has its answers is written so; the first format that says yes reads it."""
    read: Callable[[Parts], Example]
    """Return the pair, label or ranked list of a row; RowProblem if the row holds none of them."""
    answers: tuple[str, ...] = ("chosen", "rejected")
    """Roles that hold the answers; a row of the format has all of them."""
    answers_of: Callable[[Row, Mapping[str, str]], dict[str, str]] | None = None
    """Return the column of each of `answers` in a row, nothing where it has none; the mapping leads from names in lower case to
    columns. None: a better and a worse answer, by the names that data/roles.py knows."""
    texts: tuple[Literal["chat", "plain"], ...] = ()
    """Values of data.columns.text that may say what the text of a row is; each is how the rows are read then."""
    takes_beginning: bool = False
    """The prompt is what chosen and rejected have in common at their start; no column says so."""
