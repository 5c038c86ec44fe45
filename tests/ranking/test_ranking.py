"""Gold ranks as the grammar's reward; pairing takes best against worst."""

import json
import math
from dataclasses import replace

import pytest

from dpo_lab.ranking.controls import LengthRanker
from dpo_lab.ranking.gold import GoldRanker
from dpo_lab.ranking.pairing import BestVsWorst
from dpo_lab.ranking.pairrm.ranker import PairRM
from dpo_lab.records import Candidates, Prompt

PROMPT = Prompt.from_text("Please review The Silent Mirror.")


def ranked(*scores: float) -> Candidates:
    return Candidates(
        prompt=PROMPT, responses=tuple(f"answer {score} {place}" for place, score in enumerate(scores)), scores=scores
    )


def test_gold_gives_one_score_and_one_share_per_answer() -> None:
    good = "The Silent Mirror left me speechless with joy. It is the film of the year."
    bad = "The Crimson Harbor left me bored and angry. Avoid it at all costs. The butler did it."
    (verdict,) = GoldRanker().rank([Candidates(prompt=PROMPT, responses=(good, bad, "no sentence of the grammar."))])
    # good: .5 * 1 + .25 + .25; bad: tone 0, wrong film, spoiler; the last is not well-formed
    assert verdict.scores == (1.0, 0.0, 0.0)
    assert verdict.details["well_formed"] == (1.0, 1.0, 0.0)


def test_best_against_worst_with_their_scores() -> None:
    (pair,) = BestVsWorst().pairs([ranked(0.25, 1.0, 0.0, 0.5)], GoldRanker())
    assert (pair.chosen, pair.rejected) == ("answer 1.0 1", "answer 0.0 2")
    assert (pair.score_chosen, pair.score_rejected, pair.source, pair.row) == (1.0, 0.0, "gold", 1)


def test_ties_and_small_gaps_give_no_pair() -> None:
    assert not list(BestVsWorst().pairs([ranked(0.5, 0.5)], GoldRanker()))
    assert not list(BestVsWorst(min_gap=0.3).pairs([ranked(0.5, 0.25)], GoldRanker()))
    assert len(list(BestVsWorst(min_gap=0.25).pairs([ranked(0.5, 0.25)], GoldRanker()))) == 1


def test_equal_texts_give_no_pair() -> None:
    same = Candidates(prompt=PROMPT, responses=("a", "a"), scores=(1.0, 0.0))
    assert not list(BestVsWorst().pairs([same], GoldRanker()))


def test_a_pair_carries_the_rankers_win_probability() -> None:
    # a gap of 0.3 at temperature 0.15: sigmoid(2)
    (pair,) = BestVsWorst().pairs([ranked(0.2, 0.5)], GoldRanker(temperature=0.15))
    assert pair.preference == pytest.approx(0.880797, abs=1e-6)


def test_a_ranker_without_probabilities_leaves_the_preference_unknown() -> None:
    (pair,) = BestVsWorst().pairs([ranked(0.2, 0.5)], LengthRanker())
    assert pair.preference is None


def test_the_preference_of_pairrm_is_that_of_the_pair_and_not_of_the_difference_of_scores() -> None:
    both = replace(ranked(2.0, -2.0), pairwise=((0.0, 3.0), (-1.0, 0.0)))  # log-odds (3 + 1) / 2, scores differ by 4
    (pair,) = BestVsWorst().pairs([both], PairRM())
    assert pair.preference == pytest.approx(1 / (1 + math.exp(-2)))
    (sharper,) = BestVsWorst().pairs([both], PairRM(temperature=0.5))
    assert sharper.preference == pytest.approx(1 / (1 + math.exp(-4)))


def test_candidates_keep_the_comparisons_of_their_pairs() -> None:
    both = replace(ranked(2.0, -2.0), pairwise=((0.0, 3.25), (-1.5, 0.0)))
    assert Candidates.from_record(json.loads(json.dumps(both.to_record()))) == both
