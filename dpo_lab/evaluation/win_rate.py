"""Win rate: how often a judge prefers a policy's answers to another model's answers to the same prompts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import torch

from dpo_lab.evaluation.statistics import Observed, share_of
from dpo_lab.ranking.asking import verdicts_of
from dpo_lab.ranking.base import Ranker, Verdict, failed
from dpo_lab.records import Candidates


@dataclass(frozen=True)
class Wins:
    """The outcome of each answer against the other model's answer beside it."""

    observed: Observed
    """1 for a win, a half for a tie; answers about which the judge said nothing are left out."""
    shorter_by: tuple[int, ...]
    """Characters of the other model's answer minus the own one's, of each answer in `observed`."""


def win_rate(ours: Sequence[Candidates], theirs: Sequence[Candidates]) -> dict[str, float]:
    """Return the share of wins, with its 95 % interval over prompts; prompts where the judge failed do not count."""
    wins = wins_by_score(ours, theirs)
    return share_of(wins.observed).figures("win_rate") if wins else {}


def wins_by_score(ours: Sequence[Candidates], theirs: Sequence[Candidates]) -> Wins | None:
    """Return the outcome of each answer by its score: 1 for a win, a half for a tie; prompts where the judge failed are left out.

    None if it failed for each prompt.

    >>> from dpo_lab.records import Prompt
    >>> prompt = Prompt.from_text("?")
    >>> one = [Candidates(prompt=prompt, responses=("a", "b"), scores=(1.0, 0.5))]
    >>> two = [Candidates(prompt=prompt, responses=("c", "d"), scores=(0.0, 0.5))]
    >>> wins_by_score(one, two).observed.values
    [1.0, 0.5]
    """
    outcomes, prompts, shorter_by = list[float](), list[str](), list[int]()
    for mine, other in zip(ours, theirs, strict=True):
        if mine.scores and other.scores:
            outcomes += [_outcome(score - beaten) for score, beaten in zip(mine.scores, other.scores, strict=True)]
            prompts += [mine.prompt.id] * len(mine.scores)
            shorter_by += [len(beside) - len(own) for own, beside in zip(mine.responses, other.responses, strict=True)]
    return Wins(Observed(outcomes, prompts), tuple(shorter_by)) if outcomes else None


def wins_side_by_side(
    judge: Ranker,
    ours: Sequence[Candidates],
    theirs: Sequence[Candidates],
    device: torch.device,
    *,
    name: str,
    directory: Path | None,
) -> Wins | None:
    """Return the outcome of each answer beside the other model's, shown in both orders: 1 and 0 if the orders agree, else a half.

    For a judge that compares the answers of a set, whose scores say nothing across sets. Answers are paired in their order.
    None if the judge failed for each pair of answers.

    Args:
        name: what the progress calls this part.
        directory: where verdicts are kept as they are made, for a call after a kill; None keeps nothing.
    """
    sides = [
        replace(mine, responses=texts, scores=(), pairwise=(), preferred=(), finished=())
        for mine, other in zip(ours, theirs, strict=True)
        for texts in zip(mine.responses, other.responses, strict=True)
    ]
    verdicts = verdicts_of(judge, sides, device, name=name, directory=directory, in_one_order=False)
    if any(said.pairwise for said in verdicts):  # it has compared them in both orders itself
        shares = [fmean((_outcome(said.pairwise[0][1]), _outcome(-said.pairwise[1][0]))) for said in verdicts]
    else:
        turned = [replace(side, responses=side.responses[::-1]) for side in sides]
        others = verdicts_of(judge, turned, device, name=f"{name} turned", directory=directory, in_one_order=False)
        shares = [fmean((_first_wins(one), 1 - _first_wins(other))) for one, other in zip(verdicts, others, strict=True)]
        verdicts = [one if failed(one) else other for one, other in zip(verdicts, others, strict=True)]
    told = [at for at, said in enumerate(verdicts) if not failed(said)]
    if not told:
        return None
    shorter_by = tuple(len(sides[at].responses[1]) - len(sides[at].responses[0]) for at in told)
    return Wins(Observed([shares[at] for at in told], [sides[at].prompt.id for at in told]), shorter_by)


def _first_wins(verdict: Verdict) -> float:
    return _outcome(verdict.scores[0] - verdict.scores[1])


def _outcome(difference: float) -> float:
    return float(difference > 0) + 0.5 * float(difference == 0)
