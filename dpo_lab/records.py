"""The nouns that stages exchange as JSON lines: Prompt, and what answers it: PreferencePair, Label, Candidates."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypedDict

from dpo_lab.drawn import Drawn, drawn_in, rounded, tokens_of


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """What a response answers: turns for a chat template, or, when `rendered`, text that never meets one."""

    id: str
    """Digest of the turns: equal prompts have equal ids, and a split keeps them together."""
    messages: tuple[Message, ...]
    """The turns in order; exactly one user turn with the whole text when `rendered`."""
    rendered: bool = False

    @classmethod
    def of(cls, messages: Iterable[Message], *, rendered: bool = False) -> "Prompt":
        """Return a prompt whose id follows from its text.

        >>> Prompt.from_text("Is it good?").id == Prompt.from_text("Is it good?").id
        True
        """
        turns = tuple(messages)
        digest = hashlib.sha256(json.dumps([turns, rendered], ensure_ascii=True).encode()).hexdigest()
        return cls(id=digest[:16], messages=turns, rendered=rendered)

    @classmethod
    def from_text(cls, text: str) -> "Prompt":
        """Return a prompt of one user turn."""
        return cls.of([{"role": "user", "content": text}])

    @property
    def text(self) -> str:
        """The last user turn, which is what a person asked."""
        return next(turn["content"] for turn in reversed(self.messages) if turn["role"] == "user")


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferencePair:
    """One prompt and two responses, of which `chosen` is preferred."""

    noun: ClassVar[str] = "pairs"
    """Several of them, in messages."""

    prompt: Prompt
    chosen: str
    rejected: str
    score_chosen: float | None = None
    score_rejected: float | None = None
    preference: float | None = None
    """Probability that `chosen` is the better one; None when the data does not say."""
    agreement: float | None = None
    """Share of several rankers that place `chosen` above `rejected`, ties half; None where one ranker chose."""
    finished: tuple[bool, bool] = (True, True)
    """Whether the chosen and the rejected response ended by themselves; one that was cut gets no end token."""
    drawn: tuple[Drawn | None, ...] = ()
    """The tokens of chosen and rejected response that a model drew: trained as they are. Empty, or None for one of them: those
    of the text are."""
    source: str = ""
    """The file or part that the pair comes from."""
    row: int = 0
    """Position in the source, counted from 1."""

    @property
    def id(self) -> str:
        """Digest of the prompt and both responses, and of their tokens where a model drew them."""
        tokens = [answer.ids.tolist() if answer else None for answer in self.drawn]
        text = json.dumps([self.prompt.id, self.chosen, self.rejected, *tokens], ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def said(self) -> tuple[object, ...]:
        """What distinguishes it from another pair once its tokens are stored."""
        return self.id, self.finished, self.score_chosen, self.score_rejected, self.preference

    @property
    def responses(self) -> tuple[str, str]:
        """The chosen and the rejected response."""
        return self.chosen, self.rejected

    @property
    def scores(self) -> tuple[float | None, float | None]:
        """The scores of the chosen and of the rejected response."""
        return self.score_chosen, self.score_rejected

    def to_record(self, split: str) -> dict[str, Any]:
        """Return the canonical record: TRL's conversational explicit layout plus scores and origin."""
        return {
            "id": self.id,
            "prompt": list(self.prompt.messages),
            "chosen": [{"role": "assistant", "content": self.chosen}],
            "rejected": [{"role": "assistant", "content": self.rejected}],
            "score_chosen": self.score_chosen,
            "score_rejected": self.score_rejected,
            "preference": self.preference,
            **({"agreement": self.agreement} if self.agreement is not None else {}),
            "prompt_id": self.prompt.id,
            "source": self.source,
            "row": self.row,
            "split": split,
            "rendered": self.prompt.rendered,
            "finished": list(self.finished),
            **tokens_of(self.drawn),
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "PreferencePair":
        """Return the pair of a canonical record."""
        return cls(
            prompt=Prompt.of(record["prompt"], rendered=record.get("rendered", False)),
            chosen=record["chosen"][-1]["content"],
            rejected=record["rejected"][-1]["content"],
            score_chosen=record["score_chosen"],
            score_rejected=record["score_rejected"],
            preference=record["preference"],
            agreement=record.get("agreement"),
            finished=tuple(record.get("finished", (True, True))),
            drawn=drawn_in(record),
            source=record["source"],
            row=record["row"],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """One prompt and one response, which is desirable or not; no other response stands beside it."""

    noun: ClassVar[str] = "labels"

    prompt: Prompt
    response: str
    desirable: bool
    finished: tuple[bool] = (True,)
    """Whether the response ended by itself."""
    drawn: tuple[Drawn | None, ...] = ()
    """The tokens of the response that a model drew; empty: those of the text are trained."""
    source: str = ""
    """The file or part that the label comes from."""
    row: int = 0
    """Position in the source, counted from 1."""

    @property
    def responses(self) -> tuple[str]:
        """The one response."""
        return (self.response,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """Several responses to one prompt, and their scores once ranked (higher is better)."""

    noun: ClassVar[str] = "ranked lists"

    prompt: Prompt
    responses: tuple[str, ...]
    scores: tuple[float, ...] = ()
    finished: tuple[bool, ...] = ()
    """Whether each response ended by itself; empty: all did."""
    drawn: tuple[Drawn | None, ...] = ()
    """The tokens of each response, None for one that no model drew; empty where they are not kept."""
    pairwise: tuple[tuple[float, ...], ...] = ()
    """Entry (i, j): log-odds that response i is better than j when i is shown first; empty where pairs were not compared."""
    agreement: tuple[tuple[float, ...], ...] = ()
    """Entry (i, j): share of several rankers that score response i above j, ties half; empty where one ranker scored."""
    preferred: tuple[int, ...] = ()
    """Positions of the responses that people prefer: one, or those that tie as the best; empty where nobody said."""
    source: str = ""
    """The file or part that they come from; empty where they were sampled here."""
    row: int = 0
    """Position in the source, counted from 1."""

    @property
    def best_and_worst(self) -> tuple[int, int]:
        """The positions of the highest and of the lowest score, of equal ones the first.

        >>> Candidates(prompt=Prompt.from_text("Why?"), responses=("a", "b", "c"), scores=(0.5, 1.0, 0.5)).best_and_worst
        (1, 0)
        """
        order = range(len(self.scores))
        return max(order, key=self.scores.__getitem__), min(order, key=self.scores.__getitem__)

    @property
    def said(self) -> tuple[object, ...]:
        """What distinguishes it from another ranked list once its tokens are stored."""
        ids = [answer.ids.tolist() if answer else None for answer in self.drawn]
        return self.prompt.id, self.responses, self.finished, self.scores, ids

    def has_ended(self, index: int) -> bool:
        """Return whether a response ended by itself."""
        return not self.finished or self.finished[index]

    def to_record(self) -> dict[str, Any]:
        """Return the candidate record as plain data."""
        return {
            "prompt_id": self.prompt.id,
            "prompt": list(self.prompt.messages),
            "responses": list(self.responses),
            "scores": list(self.scores),
            **({"pairwise": [rounded(row) for row in self.pairwise]} if self.pairwise else {}),
            **({"agreement": [list(row) for row in self.agreement]} if self.agreement else {}),
            **({"preferred": list(self.preferred)} if self.preferred else {}),
            **({"source": self.source, "row": self.row} if self.source else {}),
            "finished": list(self.finished),
            "rendered": self.prompt.rendered,
            **tokens_of(self.drawn),
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Candidates":
        """Return the candidates of a record."""
        prompt = Prompt.of(record["prompt"], rendered=record.get("rendered", False))
        return cls(
            prompt=prompt,
            responses=tuple(record["responses"]),
            scores=tuple(record["scores"]),
            finished=tuple(record.get("finished", ())),
            drawn=drawn_in(record),
            pairwise=tuple(map(tuple, record.get("pairwise", ()))),
            agreement=tuple(map(tuple, record.get("agreement", ()))),
            preferred=tuple(record.get("preferred", ())),
            source=record.get("source", ""),
            row=record.get("row", 0),
        )


Example = PreferencePair | Label | Candidates
"""What a row of data says of the responses to a prompt."""


def digest_of(*lists: Iterable[object]) -> str:
    """Return the sha256 of what `repr` writes of some lists, one after another; none of them is held, nor its text.

    >>> digest_of((n for n in (1, 2)), ["a"]) == hashlib.sha256(b"[1, 2]['a']").hexdigest()
    True
    """
    digest = hashlib.sha256()
    for items in lists:
        between = "["
        for item in items:
            digest.update(f"{between}{item!r}".encode())
            between = ", "
        digest.update(b"[]" if between == "[" else b"]")
    return digest.hexdigest()


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> int:
    """Write one JSON object per line; return how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file that `write_jsonl` wrote."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
