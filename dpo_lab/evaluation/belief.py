"""What the ranker that chose the training pairs believes of a policy, beside what the judge says of the same answers.

A policy is trained to please its ranker. Where the ranker's belief keeps rising and the judge's word does not, or the two agree
about fewer answers than before, the policy has learned what the ranker is wrong about (Gao et al. 2023, arXiv:2210.10760).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from dpo_lab.components import Component
from dpo_lab.data.base import Prompts
from dpo_lab.evaluation.statistics import Observed
from dpo_lab.evaluation.win_rate import Wins, wins_side_by_side
from dpo_lab.figures import Figure
from dpo_lab.ranking.base import Ranker
from dpo_lab.records import Candidates

BELIEVED = Figure(
    name="win_rate/ranker",
    title="win rate against before, as the ranker believes",
    unit="share",
    interval=True,
    headline=False,
    each_round=True,
    against="before",
)
AGREED = Figure(
    name="win_rate/agreement",
    title="answers of which ranker and judge say the same, won or lost",
    unit="share",
    interval=True,
    headline=False,
    each_round=True,
)
BELIEFS: tuple[str, ...] = (BELIEVED.name, AGREED.name)


def another_opinion(ranker: Component | None, judge: Ranker, prompts: Prompts) -> Ranker | None:
    """Return a ranker whose belief says more than the judge does: another one than the judge, that can judge such prompts."""
    if not isinstance(ranker, Ranker) or ranker == judge or ranker.cannot_judge(prompts):
        return None
    return ranker


def belief_figures(ranker: Ranker, judge: Ranker) -> list[Figure]:
    """Return the figures of `beliefs`."""
    return [
        replace(BELIEVED, by_round=f"wins, {ranker.label} says"),
        replace(AGREED, by_round=f"{judge.label} says so too"),
    ]


def beliefs(
    ranker: Ranker,
    ours: Sequence[Candidates],
    theirs: Sequence[Candidates],
    judged: Wins,
    device: torch.device,
    directory: Path | None,
) -> dict[str, Observed]:
    """Return what a ranker says of each answer against the other model's, and whether the judge says so too.

    Nothing of answers where the ranker failed. Whether the two agree is known where both prefer one of the answers, and the
    ranker and the judge failed for none.

    Args:
        judged: the judge's own outcomes of the same answers.
        directory: where verdicts are kept as they are made, for a call after a kill; None keeps nothing.
    """
    wins = wins_side_by_side(ranker, ours, theirs, device, name="ranker beside before", directory=directory)
    if wins is None:
        return {}
    observed, told = {BELIEVED.name: wins.observed}, judged.observed
    if list(wins.observed.prompts) != list(told.prompts):
        return observed
    both = [
        (float(believed == said), prompt)
        for believed, said, prompt in zip(wins.observed.values, told.values, told.prompts, strict=True)
        if believed != 0.5 and said != 0.5
    ]
    if both:
        observed[AGREED.name] = Observed([same for same, _ in both], [prompt for _, prompt in both])
    return observed
