"""Win rate: how often a judge prefers a policy's answers to another model's answers to the same prompts."""

from collections.abc import Sequence
from statistics import fmean

from dpo_lab.components import RunError
from dpo_lab.evaluation.statistics import wilson
from dpo_lab.records import Candidates


def win_rate(ours: Sequence[Candidates], theirs: Sequence[Candidates]) -> dict[str, float]:
    """Return the share of wins, with its Wilson 95 % interval over all answers; prompts where the judge failed do not count."""
    judged = [(mine, other) for mine, other in zip(ours, theirs, strict=True) if mine.scores and other.scores]
    if not judged:
        raise RunError("the judge failed for each held-out prompt, before training or after it; choose another judge.")
    share = share_of_wins([mine for mine, _ in judged], [other for _, other in judged])
    low, high = wilson(share, sum(len(mine.scores) for mine, _ in judged))
    return {"win_rate": share, "win_rate/low": low, "win_rate/high": high}


def share_of_wins(ours: Sequence[Candidates], theirs: Sequence[Candidates]) -> float:
    """Return the share of answers that score above the other model's to the same prompt; a tie counts half.

    >>> from dpo_lab.records import Prompt
    >>> prompt = Prompt.from_text("?")
    >>> one = [Candidates(prompt=prompt, responses=("a", "b"), scores=(1.0, 0.5))]
    >>> two = [Candidates(prompt=prompt, responses=("c", "d"), scores=(0.0, 0.5))]
    >>> share_of_wins(one, two)
    0.75
    """
    outcomes = [
        (score > other) + 0.5 * (score == other)
        for mine, other_side in zip(ours, theirs, strict=True)
        for score, other in zip(mine.scores, other_side.scores, strict=True)
    ]
    return fmean(outcomes)
