"""Formats with any number of answers to a prompt, in the order of a rank."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dpo_lab.data.formats.base import Parts, Row, RowFormat
from dpo_lab.data.formats.conversations import from_explicit, from_turns_and_texts
from dpo_lab.data.formats.texts import from_instruction, from_plain_explicit
from dpo_lab.data.problems import RowProblem, excerpt
from dpo_lab.data.turns import number_of
from dpo_lab.records import Candidates, PreferencePair


def is_ranked(value: Any) -> bool:
    """Return whether a value is a list of objects with a rank and a completion each, as NeMo RL writes them."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and {"rank", "completion"} <= set(item) for item in value)
    )


def ranked_column(row: Row, lower: Mapping[str, str]) -> dict[str, str]:
    """Return the column of the ranked answers."""
    return {"ranked": lower["completions"]} if is_ranked(row.get(lower.get("completions", ""))) else {}


def from_ranked(row: Parts) -> Candidates:
    """Return the ranked answers, the best one first; rank 0 is best, and a score is the negative rank."""
    best_first = in_order(row)
    if len(best_first) < 2:
        raise RowProblem("empty_response", f"{row.name('ranked')} holds {len(best_first)} answer, and a preference needs two")
    (_, best), *others = best_first
    pairs = [of_two(replace(row, values={**row.values, "chosen": best, "rejected": other})) for _, other in others]
    return Candidates(
        prompt=pairs[0].prompt,
        responses=(pairs[0].chosen, *(pair.rejected for pair in pairs)),
        scores=tuple(0 - rank for rank, _ in best_first),
    )


def of_two(row: Parts) -> PreferencePair:
    """Return the pair of two of the answers, which are read as in the formats of pairs."""
    if {row.kind("chosen"), row.kind("rejected")} == {"text"}:
        if row.kind("prompt") == "turns":
            return from_turns_and_texts(row)
        return from_instruction(row) if row.is_question else from_plain_explicit(row)
    if row.kind("prompt") == "text":
        raise RowProblem("wrong_type", f"{row.name('prompt')} is text and the answers in {row.name('ranked')} are turns")
    return from_explicit(row)


def in_order(row: Parts) -> list[tuple[float, Any]]:
    """Return (rank, answer) of every answer, the best one first."""
    if not is_ranked(row.values["ranked"]):
        found = f"{row.name('ranked')} is {excerpt(row.values['ranked'])}"
        raise RowProblem("wrong_type", f"{found}, not a list of objects with a rank and a completion")
    ranked = []
    for number, item in enumerate(row.values["ranked"]):
        rank = number_of(item, "rank")
        if rank is None:
            raise RowProblem("bad_score", f"{row.name('ranked')} {number} has the rank {excerpt(item['rank'])}, not a number")
        ranked.append((rank, item["completion"]))
    return sorted(ranked, key=lambda answer: answer[0])


RANKED = (
    RowFormat(
        name="ranked_completions",
        answers=("ranked",),
        answers_of=ranked_column,
        columns=("prompt", "system"),
        texts=("chat", "plain"),
        recognises=lambda row: "ranked" in row.values,
        read=from_ranked,
    ),
)
