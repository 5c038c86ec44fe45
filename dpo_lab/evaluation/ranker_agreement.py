"""How two rankers agree about the same answers."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

from dpo_lab.amounts import short
from dpo_lab.evaluation.statistics import Observed, share_of
from dpo_lab.records import Candidates


def ranker_agreement(one: Iterable[Candidates], other: Iterable[Candidates]) -> dict[str, Any]:
    """Return how two rankings of the same prompts agree; prompts that one of them lacks are left out.

    `pairs`: share of pairs of answers that both put in the same order, with its 95 % interval whose unit is the prompt; a pair
    that one of them or both leave equal counts half. `best`: share of `prompts` of which both put the same answer first.
    """
    theirs = {each.prompt.id: each for each in other}
    alike, prompts, best = list[float](), list[str](), list[bool]()
    for each in one:
        counterpart = theirs.get(each.prompt.id)
        if counterpart is None or counterpart.responses != each.responses:
            continue
        best.append(first_of(each) == first_of(counterpart))
        for a, b in combinations(range(len(each.scores)), 2):
            product = (each.scores[a] - each.scores[b]) * (counterpart.scores[a] - counterpart.scores[b])
            alike.append(0.5 + 0.5 * (product > 0) - 0.5 * (product < 0))
            prompts.append(each.prompt.id)
    pairs = share_of(Observed(alike, prompts)).figures("pairs") if alike else {}
    return {**pairs, "best": sum(best) / len(best) if best else None, "prompts": len(best)}


def first_of(candidates: Candidates) -> str:
    """Return the text of the highest score, of equal ones the first."""
    return candidates.responses[max(range(len(candidates.scores)), key=lambda at: candidates.scores[at])]


def agreement_line(name: str, found: Mapping[str, Any]) -> str:
    """Return how a ranking agrees with another, for the screen.

    >>> agreement_line("answers-gold-1a2b", {"pairs": 0.75, "best": 0.5, "prompts": 8})
    'agrees with answers-gold-1a2b: .75 of pairs in the same order, .50 with the same best answer'
    """
    if not found["prompts"]:
        return f"agrees with {name}: no prompt in common"
    pairs = f"{short(found['pairs'])} of pairs in the same order, " if "pairs" in found else ""
    return f"agrees with {name}: {pairs}{short(found['best'])} with the same best answer"
