"""Validation of examples: what is left out, what stops the run, what is only noted; texts are stripped for chat templates."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

from dpo_lab.data.problems import CODES, Problem, Problems, RowProblem, excerpt
from dpo_lab.records import Candidates, Example, Label, PreferencePair, Prompt

Taken = TypeVar("Taken", bound=Example)

CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
"""C0 and C1 controls without those that are whitespace (tab, line ends, form feed, U+0085)."""
SURROGATE = re.compile(r"[\ud800-\udfff]")
MARKUP = re.compile(r"</?s>|<(?:unk|pad|bos|eos|start_of_turn|end_of_turn)>|\[/?INST\]|<</?SYS>>|<\|[a-zA-Z_]+\|>")
"""Special tokens and chat markup of the Mistral, Llama, ChatML, Zephyr, Phi and Gemma families."""


def validate(examples: Iterable[Taken]) -> tuple[list[Taken], Problems]:
    """Return the examples that can be used, in order, and all that was found.

    Conversational ones come back with outer whitespace stripped; rendered ones keep it, because there the leading
    space is part of the response. Nothing else about a text is changed. A row stops at its first fault; notes are all
    counted.
    """
    kept: list[Taken] = []
    problems, earlier = Problems(), Earlier(kept)
    for given in examples:
        example = given if given.prompt.rendered else stripped(given)
        try:
            refuse_faults(example)
        except RowProblem as problem:
            problems.append(_problem(example, problem.code, problem.found))
            continue
        remarks = [*notes(example), *repetitions(example, earlier)]
        if example != given:
            remarks.append(("outer_whitespace", "a text begins or ends with whitespace"))
        for code, text in remarks:
            problems.append(_problem(example, code, text))
        kept.append(example)
        earlier.add_last()
    return kept, problems


Key = tuple[object, ...]


def says(example: Example) -> Key:
    """Return what tells an example from others: prompt, responses in order, and the label of a labelled one."""
    label = (example.desirable,) if isinstance(example, Label) else ()
    return (example.prompt.id, *example.responses, *label)


def opposite(example: Example) -> Key | None:
    """Return what an example would say that contradicts this one; a ranked list has no single one."""
    if isinstance(example, Candidates):
        return None
    if isinstance(example, Label):
        return says(replace(example, desirable=not example.desirable))
    return (example.prompt.id, example.rejected, example.chosen)


class Earlier:
    """Finds the first of the kept examples that says the same; holds no text itself, only a number for each example.

    Two different examples share a number once in 2^64; the second of them is then not found again.
    """

    def __init__(self, kept: Sequence[Example]) -> None:
        self._kept = kept
        self._first: dict[int, int] = {}

    def add_last(self) -> None:
        """Take in the example that was kept last."""
        self._first.setdefault(hash(says(self._kept[-1])), len(self._kept) - 1)

    def find(self, key: Key | None) -> Example | None:
        """Return the first example that says this."""
        at = self._first.get(hash(key))
        found = None if at is None else self._kept[at]
        return found if found and says(found) == key else None


def _problem(example: Example, code: str, found: str) -> Problem:
    return Problem(file=example.source, row=example.row, code=code, verdict=CODES[code].verdict, found=found)


def stripped(example: Taken) -> Taken:
    """Return the example without outer whitespace in its turns and responses."""
    if all(text == text.strip() for _, text in texts(example)):
        return example
    turns = [{**turn, "content": turn["content"].strip()} for turn in example.prompt.messages]
    prompt = Prompt.of(turns)  # type: ignore[arg-type]  # a dict display with ** loses the TypedDict
    answers = tuple(text.strip() for text in example.responses)
    if isinstance(example, Candidates):
        return replace(example, prompt=prompt, responses=answers)
    names = ("response",) if isinstance(example, Label) else ("chosen", "rejected")
    return replace(example, prompt=prompt, **dict[str, Any](zip(names, answers, strict=True)))


def refuse_faults(example: Example) -> None:
    """Raise RowProblem at the first thing that makes the example unusable."""
    for place, text in texts(example):
        if match := SURROGATE.search(text):
            raise RowProblem("bad_unicode", f"{place} holds U+{ord(match[0]):04X}")
        if match := CONTROL.search(text):
            raise RowProblem("control_character", f"{place} holds U+{ord(match[0]):04X}")
    if not any(turn["role"] == "user" for turn in example.prompt.messages):
        raise RowProblem("empty_prompt", "the prompt has no user turn")
    for number, turn in enumerate(example.prompt.messages, 1):
        if not visible(turn["content"]):
            raise RowProblem("empty_prompt", f"turn {number} of the prompt ({turn['role']}) is {excerpt(turn['content'])}")
    named = named_responses(example)
    for name, text in named:
        if not visible(text):
            raise RowProblem("empty_response", f"{name} is {excerpt(text)}")
    if len(named) > 1 and len({text.strip() for _, text in named}) == 1:
        all_of_them = "all answers are" if isinstance(example, Candidates) else "chosen and rejected are both"
        raise RowProblem("chosen_equals_rejected", f"{all_of_them} {excerpt(named[0][1])}")
    if isinstance(example, PreferencePair):
        refuse_scores(example)
    if isinstance(example, Candidates) and len(set(example.scores)) == 1:
        raise RowProblem("tie", f"all scores are {example.scores[0]}")


def refuse_scores(pair: PreferencePair) -> None:
    """Raise RowProblem if both scores are given and do not prefer the chosen response."""
    if pair.score_chosen is None or pair.score_rejected is None:
        return
    if pair.score_chosen == pair.score_rejected:
        raise RowProblem("tie", f"both scores are {pair.score_chosen}")
    if pair.score_chosen < pair.score_rejected:
        raise RowProblem(
            "score_order", f"the score of chosen, {pair.score_chosen}, is below that of rejected, {pair.score_rejected}"
        )


def notes(example: Example) -> Iterator[tuple[str, str]]:
    """Yield (code, what was found) for what is kept as it is but probably a mistake."""
    roles = [turn["role"] for turn in example.prompt.messages if turn["role"] != "system"] + ["assistant"]
    if roles[0] == "assistant":
        yield "consecutive_roles", "the conversation opens with an assistant turn"
    elif any(role == following for role, following in pairwise(roles)):
        yield "consecutive_roles", f"the roles are {', '.join(roles)}"
    if isinstance(example, PreferencePair) and (example.score_chosen is None) != (example.score_rejected is None):
        yield "missing_score", f"the scores are {example.score_chosen} and {example.score_rejected}"
    for place, text in texts(example):
        if match := MARKUP.search(text):
            yield "special_token_in_text", f"{place} holds {match[0]}"
            break
    if isinstance(example, PreferencePair) and visible(example.chosen) == visible(example.rejected):
        yield "near_duplicate_responses", f"chosen and rejected both read {excerpt(visible(example.chosen))}"


def repetitions(example: Example, earlier: Earlier) -> Iterator[tuple[str, str]]:
    """Yield a note if an earlier row holds the same example, or the same with the labels exchanged."""
    what, responses = ("label", "response") if isinstance(example, Label) else ("pair", "two responses")
    what = "ranked list" if isinstance(example, Candidates) else what
    if same := earlier.find(says(example)):
        yield "duplicate_row", f"the same {what} as {_spot(same, example)}"
    if exchanged := earlier.find(opposite(example)):
        yield "contradiction", f"{_spot(exchanged, example)} has the same {responses} with the labels exchanged"


def _spot(other: Example, example: Example) -> str:
    """Return where another row stands, seen from this one."""
    return f"row {other.row}" if other.source == example.source else f"{other.source} row {other.row}"


def named_responses(example: Example) -> list[tuple[str, str]]:
    """Return (name, text) of each response."""
    if isinstance(example, PreferencePair):
        return [("chosen", example.chosen), ("rejected", example.rejected)]
    if isinstance(example, Label):
        return [("completion", example.response)]
    return [(f"answer {number}", text) for number, text in enumerate(example.responses, 1)]


def texts(example: Example) -> Iterator[tuple[str, str]]:
    """Yield (place, text) for all texts of an example."""
    for number, turn in enumerate(example.prompt.messages, 1):
        yield f"turn {number} of the prompt", turn["content"]
    yield from named_responses(example)


def visible(text: str) -> str:
    """Return what a reader sees: composed accents, no invisible characters, single spaces.

    >>> visible("cafe\\u0301\\u200b  bar ") == "caf\\u00e9 bar"
    True
    """
    if text.isascii():  # composed already, and without invisible characters
        return " ".join(text.split())
    composed = unicodedata.normalize("NFC", text)
    invisible = {ord(char): None for char in set(composed) if unicodedata.category(char) == "Cf"}
    return " ".join(composed.translate(invisible).split() if invisible else composed.split())
