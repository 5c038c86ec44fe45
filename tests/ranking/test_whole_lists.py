"""Ranked lists as items: their order, what is left out of them, and what refuses them."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from dpo_lab.components import ConfigError
from dpo_lab.drawn import Drawn
from dpo_lab.losses.plackett_luce import PlackettLuceLoss
from dpo_lab.ranking.controls import LengthRanker
from dpo_lab.ranking.pairing import AllK
from dpo_lab.records import Candidates
from dpo_lab.stages.rank import Rank
from tests.ranking.test_pairing import many, ranked
from tests.rules.test_combinations import FILM_DATA, message


def lists_of(pairing: AllK, *sets: Candidates, counts: Counter[str] | None = None) -> list[Candidates]:
    return list(pairing.items(sets, LengthRanker(), counts))


def test_a_list_holds_the_answers_best_first_with_what_belongs_to_them() -> None:
    drawn = tuple(Drawn.of([number], [-1.0]) for number in range(3))
    three = replace(ranked(0.25, 1.0, 0.5), finished=(True, False, True), drawn=drawn, preferred=(2,))
    (made,) = lists_of(AllK(), three)
    assert (made.responses, made.scores) == (("answer 1", "answer 2", "answer 0"), (1.0, 0.5, 0.25))
    assert (made.finished, made.drawn, made.preferred) == ((False, True, True), (drawn[1], drawn[2], drawn[0]), (1,))
    assert (made.source, made.row) == (LengthRanker.label, 1)


def test_ties_equal_texts_and_small_gaps_are_left_out_and_counted() -> None:
    counts = Counter[str]()
    answers = ranked(4.0, 3.0, 3.0, 2.9, 0.0, texts=("a", "b", "c", "d", "a"))
    (made,) = lists_of(AllK(min_gap=0.5), answers, counts=counts)
    assert made.responses == ("a", "b")
    assert counts == {"ties": 1, "small_gaps": 1, "equal_texts": 1}
    assert lists_of(AllK(), ranked(1.0, 1.0, 1.0)) == []


def test_every_list_is_in_strict_order_and_every_answer_is_in_it_or_counted() -> None:
    counts, sets = Counter[str](), many()
    made = lists_of(AllK(), *sets, counts=counts)
    assert all(above > below for each in made for above, below in pairwise(each.scores))
    assert all(len(set(each.responses)) == len(each.responses) > 1 for each in made)
    answers = sum(len(one_set.responses) for one_set in sets)
    without = len(sets) - len(made)  # of them the first answer is neither in a list nor counted
    assert sum(len(each.responses) for each in made) + counts.total() + without == answers


def test_a_loss_of_pairs_is_refused_and_that_of_lists_is_not() -> None:
    lists = replace(FILM_DATA, pairing=AllK())
    assert message(data=lists) == (
        "pairing=all_k makes ranked lists, and this loss compares two answers; use loss=plackett_luce, or pairing=all_pairs "
        "for every pair of the list."
    )
    assert message(data=lists, loss=PlackettLuceLoss()) == ""
    assert message(loss=PlackettLuceLoss()) == ""  # of pairs it is DPO
    assert lists.responses_of_item == lists.sampler.num_samples == 5


def test_files_are_ranked_into_pairs() -> None:
    from pathlib import Path

    from dpo_lab.data.answers.columns import AnswerColumns
    from dpo_lab.data.answers.files import AnswerFiles

    files = AnswerFiles(path=Path("a.jsonl"), columns=AnswerColumns())
    with pytest.raises(ConfigError, match=r"pairing=all_k makes ranked lists, .* use pairing=all_pairs"):
        Rank(candidates=files, ranker=LengthRanker(), pairing=AllK()).check()
