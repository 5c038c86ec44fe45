"""Validation of pairs: what is left out, what stops the run, what is only noted; texts are stripped for the chat template."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from dpo_lab.data.problems import CODES, Problem, Problems, RowProblem, excerpt
from dpo_lab.records import PreferencePair, Prompt

CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
"""C0 and C1 controls without those that are whitespace (tab, line ends, form feed, U+0085)."""
SURROGATE = re.compile(r"[\ud800-\udfff]")
MARKUP = re.compile(r"</?s>|<(?:unk|pad|bos|eos|start_of_turn|end_of_turn)>|\[/?INST\]|<</?SYS>>|<\|[a-zA-Z_]+\|>")
"""Special tokens and chat markup of the Mistral, Llama, ChatML, Zephyr, Phi and Gemma families."""


def validate(pairs: Iterable[PreferencePair]) -> tuple[list[PreferencePair], Problems]:
    """Return the pairs that can be used, in order, and all that was found.

    Conversational pairs come back with outer whitespace stripped; rendered ones keep it, because there the leading
    space is part of the response. Nothing else about a text is changed. A row stops at its first fault; notes are all
    counted.
    """
    kept: list[PreferencePair] = []
    problems, earlier = Problems(), Earlier(kept)
    for given in pairs:
        pair = given if given.prompt.rendered else stripped(given)
        try:
            refuse_faults(pair)
        except RowProblem as problem:
            problems.append(_problem(pair, problem.code, problem.found))
            continue
        found = [*notes(pair), *repetitions(pair, earlier)]
        if pair != given:
            found.append(("outer_whitespace", "a text begins or ends with whitespace"))
        for code, text in found:
            problems.append(_problem(pair, code, text))
        kept.append(pair)
        earlier.add_last()
    return kept, problems


class Earlier:
    """Finds the first of the kept pairs with the same texts; holds no text itself, only a number for each pair.

    Two different pairs share a number once in 2^64; the second of them is then not found again.
    """

    def __init__(self, kept: Sequence[PreferencePair]) -> None:
        self._kept = kept
        self._first: dict[int, int] = {}

    def add_last(self) -> None:
        """Take in the pair that was kept last."""
        last = self._kept[-1]
        self._first.setdefault(hash((last.prompt.id, last.chosen, last.rejected)), len(self._kept) - 1)

    def find(self, prompt: Prompt, chosen: str, rejected: str) -> PreferencePair | None:
        """Return the first pair with these texts."""
        at = self._first.get(hash((prompt.id, chosen, rejected)))
        found = None if at is None else self._kept[at]
        return found if found and (found.prompt.id, found.chosen, found.rejected) == (prompt.id, chosen, rejected) else None


def _problem(pair: PreferencePair, code: str, found: str) -> Problem:
    return Problem(file=pair.source, row=pair.row, code=code, verdict=CODES[code].verdict, found=found)


def stripped(pair: PreferencePair) -> PreferencePair:
    """Return the pair without outer whitespace in its turns and responses."""
    if all(text == text.strip() for _, text in texts(pair)):
        return pair
    turns = [{**turn, "content": turn["content"].strip()} for turn in pair.prompt.messages]
    prompt = Prompt.of(turns)  # type: ignore[arg-type]  # a dict display with ** loses the TypedDict
    return replace(pair, prompt=prompt, chosen=pair.chosen.strip(), rejected=pair.rejected.strip())


def refuse_faults(pair: PreferencePair) -> None:
    """Raise RowProblem at the first thing that makes the pair unusable."""
    for place, text in texts(pair):
        if match := SURROGATE.search(text):
            raise RowProblem("bad_unicode", f"{place} holds U+{ord(match[0]):04X}")
        if match := CONTROL.search(text):
            raise RowProblem("control_character", f"{place} holds U+{ord(match[0]):04X}")
    if not any(turn["role"] == "user" for turn in pair.prompt.messages):
        raise RowProblem("empty_prompt", "the prompt has no user turn")
    for number, turn in enumerate(pair.prompt.messages, 1):
        if not visible(turn["content"]):
            raise RowProblem("empty_prompt", f"turn {number} of the prompt ({turn['role']}) is {excerpt(turn['content'])}")
    for name, text in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        if not visible(text):
            raise RowProblem("empty_response", f"{name} is {excerpt(text)}")
    if pair.chosen.strip() == pair.rejected.strip():
        raise RowProblem("chosen_equals_rejected", f"chosen and rejected are both {excerpt(pair.chosen)}")
    refuse_scores(pair)


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


def notes(pair: PreferencePair) -> Iterator[tuple[str, str]]:
    """Yield (code, what was found) for what is kept as it is but probably a mistake."""
    roles = [turn["role"] for turn in pair.prompt.messages if turn["role"] != "system"] + ["assistant"]
    if roles[0] == "assistant":
        yield "consecutive_roles", "the conversation opens with an assistant turn"
    elif any(role == following for role, following in pairwise(roles)):
        yield "consecutive_roles", f"the roles are {', '.join(roles)}"
    if (pair.score_chosen is None) != (pair.score_rejected is None):
        yield "missing_score", f"the scores are {pair.score_chosen} and {pair.score_rejected}"
    for place, text in texts(pair):
        if match := MARKUP.search(text):
            yield "special_token_in_text", f"{place} holds {match[0]}"
            break
    if visible(pair.chosen) == visible(pair.rejected):
        yield "near_duplicate_responses", f"chosen and rejected both read {excerpt(visible(pair.chosen))}"


def repetitions(pair: PreferencePair, earlier: Earlier) -> Iterator[tuple[str, str]]:
    """Yield a note if an earlier row holds the same pair, or the same pair with the labels exchanged."""
    same = earlier.find(pair.prompt, pair.chosen, pair.rejected)
    exchanged = earlier.find(pair.prompt, pair.rejected, pair.chosen)
    if same is not None:
        yield "duplicate_row", f"the same pair as {_spot(same, pair)}"
    if exchanged is not None:
        yield "contradiction", f"{_spot(exchanged, pair)} has the same two responses with the labels exchanged"


def _spot(other: PreferencePair, pair: PreferencePair) -> str:
    """Return where another row stands, seen from this one."""
    return f"row {other.row}" if other.source == pair.source else f"{other.source} row {other.row}"


def texts(pair: PreferencePair) -> Iterator[tuple[str, str]]:
    """Yield (place, text) for all texts of a pair."""
    for number, turn in enumerate(pair.prompt.messages, 1):
        yield f"turn {number} of the prompt", turn["content"]
    yield "chosen", pair.chosen
    yield "rejected", pair.rejected


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
