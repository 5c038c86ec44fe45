"""Formats with more than two answers to a prompt, in the order of a rank."""

from dataclasses import replace
from typing import Any

from dpo_lab.data.formats.base import Parts, RowFormat
from dpo_lab.data.formats.conversations import from_explicit, from_turns_and_texts
from dpo_lab.data.formats.texts import from_instruction, from_plain_explicit
from dpo_lab.data.problems import RowProblem, excerpt
from dpo_lab.data.turns import number_of
from dpo_lab.records import PreferencePair


def is_ranked(value: Any) -> bool:
    """Return whether a value is a list of objects with a rank and a completion each, as NeMo RL writes them."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and {"rank", "completion"} <= set(item) for item in value)
    )


def from_ranked(row: Parts) -> PreferencePair:
    """Return the pair of the best and the worst of ranked answers; rank 0 is best, and a score is the negative rank."""
    best_first = in_order(row)
    if len(best_first) < 2:
        raise RowProblem("empty_response", f"{row.name('ranked')} holds {len(best_first)} answer, and a pair needs two")
    (chosen_rank, chosen), (rejected_rank, rejected) = best_first[0], best_first[-1]
    scores = {"score_chosen": 0 - chosen_rank, "score_rejected": 0 - rejected_rank}
    pair_of = replace(row, values={**row.values, "chosen": chosen, "rejected": rejected, **scores})
    if {pair_of.kind("chosen"), pair_of.kind("rejected")} == {"text"}:
        if pair_of.kind("prompt") == "turns":
            return from_turns_and_texts(pair_of)
        return from_instruction(pair_of) if row.is_question else from_plain_explicit(pair_of)
    if pair_of.kind("prompt") == "text":
        raise RowProblem("wrong_type", f"{row.name('prompt')} is text and the answers in {row.name('ranked')} are turns")
    return from_explicit(pair_of)


def in_order(row: Parts) -> list[tuple[float, Any]]:
    """Return (rank, answer) of every answer, the best one first."""
    found = []
    for number, item in enumerate(row.values["ranked"]):
        rank = number_of(item, "rank")
        if rank is None:
            raise RowProblem("bad_score", f"{row.name('ranked')} {number} has the rank {excerpt(item['rank'])}, not a number")
        found.append((rank, item["completion"]))
    return sorted(found, key=lambda each: each[0])


RANKED = (
    RowFormat(
        name="ranked_completions",
        columns=("prompt", "ranked", "system"),
        recognises=lambda row: "ranked" in row.values,
        read=from_ranked,
    ),
)
