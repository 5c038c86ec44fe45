"""How two rankers agree about the same answers."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

from dpo_lab.amounts import short
from dpo_lab.evaluation.statistics import Observed, share_of
from dpo_lab.records import Candidates


def ranker_agreement(ours: Iterable[Candidates], others: Iterable[Candidates]) -> dict[str, Any]:
    """Return how two rankings of the same prompts agree; prompts that one of them lacks are left out.

    `pairs`: share of pairs of answers that both put in the same order, with its 95 % interval whose unit is the prompt; a pair
    that one of them or both leave equal counts half. `best`: share of `prompts` of which both put the same answer first.
    """
    theirs = {ranking.prompt.id: ranking for ranking in others}
    alike, prompts, best = list[float](), list[str](), list[bool]()
    for ranking in ours:
        counterpart = theirs.get(ranking.prompt.id)
        if counterpart is None or counterpart.responses != ranking.responses:
            continue
        best.append(first_of(ranking) == first_of(counterpart))
        for a, b in combinations(range(len(ranking.scores)), 2):
            product = (ranking.scores[a] - ranking.scores[b]) * (counterpart.scores[a] - counterpart.scores[b])
            alike.append(0.5 + 0.5 * (product > 0) - 0.5 * (product < 0))
            prompts.append(ranking.prompt.id)
    pairs = share_of(Observed(alike, prompts)).figures("pairs") if alike else {}
    return {**pairs, "best": sum(best) / len(best) if best else None, "prompts": len(best)}


def first_of(candidates: Candidates) -> str:
    """Return the text of the highest score, of equal ones the first."""
    return candidates.responses[max(range(len(candidates.scores)), key=lambda at: candidates.scores[at])]


def agreement_line(name: str, agreement: Mapping[str, Any]) -> str:
    """Return how a ranking agrees with another, for the screen.

    >>> agreement_line("answers-gold-1a2b", {"pairs": 0.75, "best": 0.5, "prompts": 8})
    'agrees with answers-gold-1a2b: .75 of pairs in the same order, .50 with the same best answer'
    """
    if not agreement["prompts"]:
        return f"agrees with {name}: no prompt in common"
    pairs = f"{short(agreement['pairs'])} of pairs in the same order, " if "pairs" in agreement else ""
    return f"agrees with {name}: {pairs}{short(agreement['best'])} with the same best answer"
