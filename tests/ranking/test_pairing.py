"""Which answers become pairs: every pairing refuses ties and equal texts, and reads nothing but one prompt's ranking."""

from collections import Counter
from dataclasses import replace
from itertools import combinations
from random import Random
from typing import Any

import pytest

from dpo_lab.components import ConfigError, RunError
from dpo_lab.drawn import Drawn
from dpo_lab.ranking.controls import LengthRanker
from dpo_lab.ranking.pairing import Adjacent, AllPairs, BestVsRandom, BestVsSecond, BestVsWorst, Pairing
from dpo_lab.records import Candidates, PreferencePair, Prompt

PAIRINGS = [Adjacent(), AllPairs(), BestVsRandom(), BestVsSecond(), BestVsWorst()]


def ranked(*scores: float, name: str = "?", texts: tuple[str, ...] = ()) -> Candidates:
    answers = texts or tuple(f"answer {place}" for place in range(len(scores)))
    return Candidates(prompt=Prompt.from_text(name), responses=answers, scores=scores)


def pairs_of(pairing: Pairing, *sets: Candidates, counts: Counter[str] | None = None) -> list[PreferencePair]:
    return list(pairing.pairs(sets, LengthRanker(), counts))


def scores_of(pairing: Pairing, *sets: Candidates) -> list[tuple[Any, Any]]:
    return [pair.scores for pair in pairs_of(pairing, *sets)]


def many(count: int = 40) -> list[Candidates]:
    """Return sets in which some answers tie and some have equal texts."""
    draw, sets = Random(0), []
    for number in range(count):
        size = draw.randint(2, 6)
        texts = tuple(f"text {draw.randint(0, 7)}" for _ in range(size))
        sets.append(ranked(*(draw.randint(0, 4) / 4 for _ in range(size)), name=f"{number}?", texts=texts))
    return sets


def test_each_pairing_takes_the_ranks_that_its_name_says() -> None:
    answers = ranked(0.25, 1.0, 0.0, 0.5)
    assert scores_of(BestVsWorst(), answers) == [(1.0, 0.0)]
    assert scores_of(BestVsSecond(), answers) == [(1.0, 0.5)]
    assert scores_of(Adjacent(), answers) == [(1.0, 0.5), (0.5, 0.25), (0.25, 0.0)]
    assert scores_of(AllPairs(), answers) == list(combinations((1.0, 0.5, 0.25, 0.0), 2))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_all_pairs_are_n_times_n_minus_1_over_2(size: int) -> None:
    assert len(pairs_of(AllPairs(), ranked(*map(float, range(size))))) == size * (size - 1) // 2


@pytest.mark.parametrize("pairing", PAIRINGS, ids=lambda each: type(each).__name__)
def test_no_pair_ties_has_equal_texts_or_stands_there_twice(pairing: Pairing) -> None:
    made = pairs_of(pairing, *many())
    assert made
    assert all((pair.score_chosen or 0) > (pair.score_rejected or 0) and pair.chosen != pair.rejected for pair in made)
    assert len({pair.id for pair in made}) == len(made)


@pytest.mark.parametrize("pairing", PAIRINGS, ids=lambda each: type(each).__name__)
def test_every_choice_is_a_pair_or_counted(pairing: Pairing) -> None:
    counts, sets = Counter[str](), many()
    made = pairs_of(replace(pairing, min_gap=0.5, select="hardest", keep=3), *sets, counts=counts)
    choices = sum(len(list(pairing.choices(one_set))) for one_set in sets)
    assert len(made) + counts.total() == choices
    assert counts["not_selected"] > 0
    assert counts["small_gaps"] > 0


@pytest.mark.parametrize("pairing", PAIRINGS, ids=lambda each: type(each).__name__)
def test_the_pairs_of_a_prompt_do_not_depend_on_the_prompts_beside_it(pairing: Pairing) -> None:
    sets = many()
    together = [pair.id for pair in pairs_of(pairing, *sets)]
    assert together == [pair.id for one_set in sets for pair in pairs_of(pairing, one_set)]


@pytest.mark.parametrize("pairing", [AllPairs(), Adjacent(), BestVsWorst()], ids=lambda each: type(each).__name__)
def test_the_opposite_ranking_swaps_chosen_and_rejected(pairing: Pairing) -> None:
    answers = ranked(0.25, 1.0, 0.0, 0.5)
    opposite = replace(answers, scores=tuple(-score for score in answers.scores))
    swapped = {(pair.rejected, pair.chosen) for pair in pairs_of(pairing, opposite)}
    assert {(pair.chosen, pair.rejected) for pair in pairs_of(pairing, answers)} == swapped


def test_the_random_answer_depends_on_seed_and_prompt_and_is_each_worse_one_about_as_often() -> None:
    sets = [ranked(1.0, 0.5, 0.25, 1.0, name=f"{number}?") for number in range(300)]
    drawn = [pair.rejected for pair in pairs_of(BestVsRandom(), *sets)]
    assert drawn == [pair.rejected for pair in pairs_of(BestVsRandom(), *sets)]
    assert drawn != [pair.rejected for pair in pairs_of(BestVsRandom(seed=1), *sets)]
    assert set(drawn) == {"answer 1", "answer 2"}  # never answer 3, which ties with the best
    assert 110 < drawn.count("answer 1") < 190  # 150, standard deviation 8.7


def test_what_is_left_out_is_counted_by_its_reason() -> None:
    counts = Counter[str]()
    answers = ranked(3.0, 2.0, 2.0, 0.0, texts=("a", "a", "b", "c"))
    made = pairs_of(AllPairs(max_gap=2.0), answers, counts=counts)
    assert [(pair.chosen, pair.rejected) for pair in made] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert counts == {"equal_texts": 1, "large_gaps": 1, "ties": 1}  # a-a, a-c of gap 3, a-b of gap 0


def test_a_prompt_whose_answers_all_score_alike_is_a_tie_and_not_an_equal_text() -> None:
    counts = Counter[str]()
    assert pairs_of(BestVsWorst(), ranked(1.0, 1.0, 1.0), counts=counts) == []
    assert counts == {"ties": 1}


def test_two_texts_are_one_pair_whatever_scores_their_copies_have() -> None:
    counts = Counter[str]()
    (pair,) = pairs_of(AllPairs(), ranked(3.0, 2.0, 1.0, texts=("a", "b", "a")), counts=counts)
    assert (pair.chosen, pair.rejected) == ("a", "b")
    assert counts == {"equal_texts": 1, "repeated": 1}


def test_pairs_may_differ_in_length_by_so_many_words() -> None:
    answers = ranked(1.0, 0.0, texts=("a b c", "a b c d e"))
    assert not pairs_of(BestVsWorst(max_length_difference=1), answers)
    assert len(pairs_of(BestVsWorst(max_length_difference=2), answers)) == 1


def test_the_hardest_and_the_easiest_pairs_stand_in_the_order_of_their_prompts() -> None:
    sets = [ranked(gap, 0.0, name=f"{gap}?") for gap in (0.5, 0.25, 1.0, 0.25, 0.75)]
    assert [gap for gap, _ in scores_of(BestVsWorst(select="hardest", keep=3), *sets)] == [0.5, 0.25, 0.25]
    assert [gap for gap, _ in scores_of(BestVsWorst(select="easiest", keep=2), *sets)] == [1.0, 0.75]
    assert len(scores_of(BestVsWorst(select="easiest", keep=9), *sets)) == 5


def test_of_equally_hard_pairs_the_first_are_selected() -> None:
    sets = [ranked(1.0, 0.0, name=f"{number}?") for number in range(4)]
    assert [pair.row for pair in pairs_of(BestVsWorst(select="hardest", keep=2), *sets)] == [1, 2]


def test_implicit_selects_the_pairs_of_which_the_policy_is_most_wrong_per_token() -> None:
    sets = [
        replace(ranked(1.0, 0.0, name=f"{number}?"), drawn=(Drawn.of([1] * len(own), own), Drawn.of([1], [-1.0])))
        for number, own in enumerate(([-0.5, -0.5, -0.5], [-3.0], [-1.5, -1.5]))  # margins .5, -2, -.5
    ]
    assert [pair.row for pair in pairs_of(BestVsWorst(select="implicit", keep=2), *sets)] == [2, 3]


def test_implicit_selection_of_answers_made_elsewhere_is_refused() -> None:
    with pytest.raises(RunError, match=r"select=implicit reads the log-probabilities .* use pairing.select=hardest"):
        pairs_of(BestVsWorst(select="implicit", keep=1), ranked(1.0, 0.0))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"select": "hardest"}, "Add pairing.keep=300"),
        ({"keep": 5}, "Add pairing.select=hardest"),
        ({"min_gap": 1.0, "max_gap": 0.5}, "no pair is left"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BestVsWorst(**fields).check()
