"""How a ranker agrees with people: every figure worked out by hand."""

import math
from dataclasses import replace
from itertools import count

import pytest

from dpo_lab.evaluation.ranker_agreement import ranker_agreement
from dpo_lab.evaluation.ranker_report import LEAST, lines_of, ranker_report
from dpo_lab.evaluation.statistics import wilson
from dpo_lab.ranking.gold import GoldRanker
from dpo_lab.ranking.pairrm.ranker import PairRM
from dpo_lab.records import Candidates, Prompt

ASKED = count()


def ranked(
    answers: str, scores: tuple[float, ...], preferred: tuple[int, ...] = (), pairwise: tuple[tuple[float, ...], ...] = ()
) -> Candidates:
    prompt = Prompt.from_text(f"Why {next(ASKED)}?")
    return Candidates(prompt=prompt, responses=tuple(answers.split()), scores=scores, preferred=preferred, pairwise=pairwise)


def test_accuracy_counts_every_comparison_and_equal_scores_half() -> None:
    sets = [
        ranked("a bb", (1.0, 0.0), (0,)),  # right
        ranked("a bb", (1.0, 0.0), (1,)),  # wrong
        ranked("a bb", (1.0, 1.0), (1,)),  # equal
        ranked("a bb ccc", (2.0, 1.0, 0.0), (1,)),  # wrong against a, right against ccc
        ranked("a bb", (1.0, 0.0), (0, 1)),  # people call it a tie
        ranked("a bb", (1.0, 0.0)),  # nobody said
    ]
    found = ranker_report(sets, lambda *_: None)
    assert (found["prompts"], found["labelled"], found["people_tie"], found["comparisons"]) == (6, 5, 1, 5)
    assert found["accuracy"] == (1 + 0 + 0.5 + 0 + 1) / 5
    assert found["accuracy/prompts"] == 4
    assert found["equal_scores"] == 1
    assert found["log_loss"] is None
    assert found["first_place"] is None


def test_the_interval_counts_prompts_and_not_comparisons() -> None:
    one_each = [ranked("a bb", (1.0, 0.0), (int(at < 12),)) for at in range(40)]  # 28 of 40 are right
    found = ranker_report(one_each, lambda *_: None)
    assert (found["accuracy/low"], found["accuracy/high"]) == wilson(0.7, 40)
    together = [ranked("a bb cc dd ee", (9.0 - 9 * (at < 12), 1.0, 2.0, 3.0, 4.0), (0,)) for at in range(40)]
    four = ranker_report(together, lambda *_: None)  # the same with four comparisons a prompt, all right or all wrong
    assert (four["accuracy"], four["comparisons"], four["accuracy/prompts"]) == (0.7, 160, 40)
    width = found["accuracy/high"] - found["accuracy/low"]
    assert four["accuracy/high"] - four["accuracy/low"] == pytest.approx(width, rel=0.05)
    (alone,) = (ranker_report(together[:1], lambda *_: None),)
    assert (alone["accuracy"], alone["accuracy/low"]) == (0.0, None)
    assert "no interval of 4 comparisons" in "".join(lines_of(alone))


def test_log_loss_is_that_of_the_rankers_own_probability() -> None:
    ranker = GoldRanker(temperature=0.5)
    sets = [ranked("a bb", (1.0, 0.0), (0,)), ranked("a bb", (1.0, 0.0), (1,)), ranked("a bb", (1000.0, 0.0), (1,))]
    wins = 1 / (1 + math.exp(-2))
    expected = -(math.log(wins) + math.log(1 - wins) + math.log(LEAST)) / 3
    assert ranker_report(sets[:2], ranker.preference)["log_loss"] == pytest.approx(-(math.log(wins) + math.log(1 - wins)) / 2)
    assert ranker_report(sets, lambda each, i, j: ranker.preference(each, i, j) if each.scores[0] < 9 else 0.0)[
        "log_loss"
    ] == pytest.approx(expected)


def test_places_are_read_off_the_comparisons_in_both_orders() -> None:
    sets = [
        ranked("a bb", (1.0, -1.0), (0,), pairwise=((0.0, 3.0), (-1.0, 0.0))),  # a wins in both orders
        ranked("a bb", (0.5, -0.5), (0,), pairwise=((0.0, 2.0), (1.0, 0.0))),  # whichever comes first wins
    ]
    found = ranker_report(sets, PairRM().preference)
    assert found["first_place"] == 3 / 4  # a first, lost in the second place, first, first
    assert found["first_place_nats"] == (3 - 1 + 2 + 1) / 4
    assert found["order_consistency"] == 1 / 2
    odds = [2.0, 0.5]  # means of both orders
    assert found["log_loss"] == pytest.approx(sum(math.log(1 + math.exp(-logit)) for logit in odds) / 2)


def test_a_ranker_that_saw_one_order_has_no_bias_to_tell() -> None:
    one_order = ranked("a bb", (1.0, -1.0), (0,), pairwise=((0.0, 3.0), (-3.0, 0.0)))
    found = ranker_report([one_order], PairRM().preference)
    assert found["first_place"] is None
    assert found["order_consistency"] is None


def test_length_is_correlated_within_the_prompt() -> None:
    sets = [
        ranked("a bb ccc", (1.0, 2.0, 9.0), (0,)),  # 1
        ranked("a bb ccc", (2.0, 1.0, 3.0), (2,)),  # ranks 2 1 3 against 1 2 3: 0.5
        ranked("aa bb cc", (2.0, 1.0, 3.0)),  # of equal length: undefined
    ]
    found = ranker_report(sets, lambda *_: None)
    assert found["length_correlation"] == pytest.approx((1 + 0.5) / 2)
    assert found["length_correlation/prompts"] == 2
    assert found["longer/people"] == 2 / 4  # a against bb and ccc; ccc against a and bb
    assert found["longer/ranker"] == 4 / 4


def test_the_lines_for_people_fit_in_80_columns() -> None:
    matrix = ((0.0, -12.345), (10.0, 0.0))
    sets = [ranked("a bb", (0.0, 0.0), (0,), pairwise=matrix)] * 1000 + [ranked("a bb", (1.0, 0.0), (0, 1))] * 1000
    lines = lines_of(ranker_report(sets, PairRM().preference))
    assert len(lines) == 8
    assert max(map(len, lines)) + 2 <= 80  # the stage indents them


def test_what_a_ranking_looks_like_without_people() -> None:
    circle = ((0.0, 1.0, -1.0), (-1.0, 0.0, 1.0), (1.0, -1.0, 0.0))  # a beats b, b beats c, c beats a
    order = ((0.0, 1.0, 1.0), (-1.0, 0.0, 1.0), (-1.0, -1.0, 0.0))
    found = ranker_report(
        [ranked("a b c", (3.0, 1.0, -1.0), (), circle), ranked("a b c", (0.0, 2.0, 4.0), (), order)], lambda *_: None
    )
    assert (found["cycles"], found["triples"]) == (0.5, 2)
    assert (found["margin"], found["margin/second"], found["score"]) == (4.0, 2.0, 9 / 6)
    # best of 1: the means 1 and 2; of 2: (1 + 3 + 3) / 3 and (2 + 4 + 4) / 3; of 3: 3 and 4
    assert found["best_of"] == pytest.approx([3 / 2, 17 / 6, 3.5])
    assert any("cycles" in line for line in lines_of(found))
    assert max(map(len, lines_of(found))) <= 80


def test_two_rankers_agree_as_far_as_they_order_pairs_alike() -> None:
    one, equal = ranked("a b c", (3.0, 2.0, 1.0)), ranked("a b", (1.0, 0.0))
    other = [replace(one, scores=(2.0, 3.0, 1.0)), replace(equal, scores=(0.0, 0.0)), ranked("a b", (1.0, 0.0))]
    found = ranker_agreement([one, equal], other)
    assert found["pairs"] == (0 + 1 + 1 + 0.5) / 4
    assert (found["best"], found["prompts"]) == (0.5, 2)  # of equal scores the first is the best
