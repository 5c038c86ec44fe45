"""The ranker's belief of a policy stands beside the judge's word: outcomes of the same answers, worked out by hand."""

from collections.abc import Sequence
from typing import ClassVar

import pytest
import torch

from dpo_lab.data.prompts import FilmPrompts
from dpo_lab.evaluation.belief import AGREED, BELIEVED, another_opinion, beliefs
from dpo_lab.evaluation.statistics import Observed
from dpo_lab.evaluation.win_rate import Wins
from dpo_lab.ranking.base import Ranker, Verdict
from dpo_lab.ranking.controls import LengthRanker
from dpo_lab.ranking.gold import GoldRanker
from dpo_lab.records import Candidates, Prompt

CPU = torch.device("cpu")


class Silent(Ranker):
    """Fails for every prompt."""

    label: ClassVar[str] = "silent"

    def rank(self, candidates: Sequence[Candidates]) -> list[Verdict]:
        return [Verdict((float("nan"),) * len(candidate.responses)) for candidate in candidates]


def answers(*texts: tuple[str, ...]) -> list[Candidates]:
    return [Candidates(prompt=Prompt.from_text(f"{at}?"), responses=each) for at, each in enumerate(texts)]


def judged(candidates: Sequence[Candidates], values: list[float]) -> Wins:
    prompts = [candidate.prompt.id for candidate in candidates for _ in candidate.responses]
    return Wins(Observed(values, prompts), (0,) * len(values))


def test_a_ranker_that_likes_the_shorter_answer_believes_in_it_and_agreement_leaves_ties_out() -> None:
    ours, theirs = answers(("a", "a b c"), ("a b", "a")), answers(("a b", "a b"), ("a b", "a b c"))
    found = beliefs(LengthRanker(), ours, theirs, judged(ours, [1.0, 1.0, 0.0, 0.5]), CPU, None)
    assert list(found[BELIEVED.name].values) == [1.0, 0.0, 0.5, 1.0]  # shorter, longer, equal, shorter
    assert list(found[AGREED.name].values) == [1.0, 0.0]  # the third is a tie of the ranker, the fourth one of the judge


def test_a_ranker_that_fails_believes_nothing_and_ends_no_run() -> None:
    ours = answers(("a",))
    assert beliefs(Silent(), ours, answers(("b",)), judged(ours, [1.0]), CPU, None) == {}


def test_agreement_is_unknown_where_the_judge_failed_for_a_prompt() -> None:
    ours, theirs = answers(("a",), ("a",)), answers(("a b",), ("a b",))
    found = beliefs(LengthRanker(), ours, theirs, judged(ours[1:], [1.0]), CPU, None)
    assert list(found) == [BELIEVED.name]


@pytest.mark.parametrize("ranker", [None, GoldRanker(), LengthRanker()])
def test_only_another_ranker_than_the_judge_has_another_opinion(ranker: Ranker | None) -> None:
    expected = ranker if isinstance(ranker, LengthRanker) else None
    assert another_opinion(ranker, GoldRanker(), FilmPrompts()) == expected
