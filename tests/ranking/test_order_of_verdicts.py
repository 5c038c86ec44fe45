"""A ranker of one's own whose scores stand in another order than the answers is noticed, and one that is right is not."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import pytest
import torch

from dpo_lab.components import RunError, component
from dpo_lab.ranking.asking import ANSWERS, PROMPTS_OF_TWO, opened, verdicts_of
from dpo_lab.ranking.base import Ranker, Verdict
from dpo_lab.ranking.controls import LengthRanker, RandomRanker
from dpo_lab.ranking.ensemble import EnsembleRanker
from dpo_lab.ranking.function import FunctionRanker
from dpo_lab.records import Candidates, Prompt

CPU = torch.device("cpu")
OTHER_ORDER = "returned scores in another order than the answers to the prompt 'p0'"


def sets(*answers: tuple[str, ...]) -> list[Candidates]:
    return [Candidates(prompt=Prompt.from_text(f"p{at}"), responses=texts) for at, texts in enumerate(answers)]


TOLD = sets(("ccc", "a", "bb"), ("dddd", "e"), ("f", "gg"))


def words(text: str) -> float:
    return float(len(text))


def by_text(prompt: str, answers: list[str]) -> dict[str, float]:
    return {text: words(text) for text in sorted(answers)}


def in_order(prompt: str, answers: list[str]) -> list[float]:
    return [words(text) for text in answers]


def best_first(prompt: str, answers: list[str]) -> list[float]:
    return sorted(map(words, answers), reverse=True)


def of_sorted_texts(prompt: str, answers: list[str]) -> list[float]:
    return [words(text) for text in sorted(answers)]


def turned(prompt: str, answers: list[str]) -> list[float]:
    return in_order(prompt, answers)[::-1]


def places_of_the_sorted(prompt: str, answers: list[str]) -> list[float]:
    """Rank numbers of sorted answers: what each answer alone gets says nothing."""
    return [float(place) for place in range(len(answers))]


def compared(prompt: str, answers: list[str]) -> list[float]:
    """Each answer's place among those beside it: right, though a score depends on the neighbours."""
    return [float(sum(words(text) > words(other) for other in answers)) for text in answers]


def ask(ranker: Ranker, candidates: Sequence[Candidates] = TOLD) -> list[tuple[float, ...]]:
    return [verdict.scores for verdict in verdicts_of(ranker, candidates, CPU, name="rank", directory=None)]


def function(of: Callable[..., object]) -> FunctionRanker:
    return FunctionRanker(path=f"{__name__}:{of.__name__}")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or __import__(__name__))


@pytest.mark.parametrize("wrong", [best_first, of_sorted_texts, turned, places_of_the_sorted])
def test_scores_in_another_order_than_the_answers_are_refused(wrong: Callable[..., object]) -> None:
    with pytest.raises(RunError) as refused:
        ask(function(wrong), sets(("ccc", "a", "bb")))
    assert OTHER_ORDER in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("right", [in_order, by_text])
def test_scores_in_order_and_scores_by_text_are_those_of_the_answers(right: Callable[..., object]) -> None:
    assert ask(function(right)) == [(3.0, 1.0, 2.0), (4.0, 1.0), (1.0, 2.0)]


def test_a_function_that_compares_answers_is_not_refused() -> None:
    assert ask(function(compared)) == [(2.0, 0.0, 1.0), (1.0, 0.0), (0.0, 1.0)]


def lacks_one(prompt: str, answers: list[str]) -> dict[str, float]:
    return {answers[0]: 1.0, answers[1].upper(): 2.0}


def test_a_verdict_by_text_that_lacks_an_answer_is_refused_with_the_answer() -> None:
    with pytest.raises(RunError, match=r"^ranker\.path=\S+:lacks_one returned no score of the answer 'a' to the prompt 'p0'\."):
        ask(function(lacks_one))


@component
class Counting(Ranker):
    """A ranker of one's own, by a function on texts; `order` says in which order its verdicts come."""

    label: ClassVar[str] = "mine"
    asked: ClassVar[list[int]] = []
    order: int = 1

    def rank(self, candidates: Sequence[Candidates]) -> list[Verdict]:
        """Return one verdict per set."""
        self.asked.append(sum(len(candidate.responses) for candidate in candidates))
        return [Verdict(scores=tuple(map(words, candidate.responses))) for candidate in candidates][:: self.order]


def test_verdicts_in_another_order_than_the_prompts_are_refused() -> None:
    two = sets(("ccc", "a"), ("dddd", "ee"))
    with pytest.raises(RunError, match=r"^ranker=mine returned verdicts in another order than the prompts: in the place of 'p0'"):
        ask(Counting(order=-1), two)


def test_a_few_prompts_are_asked_about_again_and_once() -> None:
    Counting.asked.clear()
    with opened(Counting(), CPU, "ranker=mine") as ready:
        for _ in range(3):
            ready.rank(TOLD)
    again = [3, 1, 1, 1], [2, 1, 1], [2, 1, 1]  # the answers in other places, and one by one
    first = [count for prompt in again for count in prompt]
    assert ANSWERS == 12
    assert Counting.asked == [7, *first, 7, *first[:7], 7]


def test_prompts_that_cannot_tell_leave_the_question_to_later_ones() -> None:
    equal = sets(("same", "same"), ("ab", "cd"), ("one",))
    with opened(function(best_first), CPU, "ranker=function") as ready:
        assert [each.scores for each in ready.rank(equal)] == [(4.0, 4.0), (2.0, 2.0), (3.0,)]
        with pytest.raises(RunError, match=OTHER_ORDER):
            ready.rank(TOLD)


def prefers_the_first_place(prompt: str, answers: list[str]) -> list[float]:
    return [float(-place) for place in range(len(answers))]


@component
class Compares(Ranker):
    """A ranker of one's own that shows its judge all answers of a prompt at once."""

    label: ClassVar[str] = "mine"
    scores_alone: ClassVar[bool] = False
    bound: int = PROMPTS_OF_TWO
    """For so many prompts its judge prefers the first place, for others the longer answer."""

    def rank(self, candidates: Sequence[Candidates]) -> list[Verdict]:
        """Return one verdict per set."""
        judges = [
            prefers_the_first_place if int(candidate.prompt.text[1:]) < self.bound else compared for candidate in candidates
        ]
        return [Verdict(scores=tuple(judge("", list(each.responses)))) for judge, each in zip(judges, candidates, strict=True)]


PAIRS = sets(*[(f"{'a' * at}b", "c") for at in range(1, PROMPTS_OF_TWO + 1)])


def test_a_judge_whose_scores_belong_to_the_places_of_two_answers_is_refused() -> None:
    for ranker in (Compares(), function(prefers_the_first_place), function(best_first)):
        said = pytest.raises(RunError, match=r"the same scores with both answers exchanged, for each of 12 prompts")
        with opened(ranker, CPU, "ranker=mine", in_one_order=True) as ready, said:
            ready.rank(PAIRS)


def test_a_judge_that_follows_the_answers_once_or_is_asked_in_both_orders_is_not_refused() -> None:
    for bound, in_one_order in ((PROMPTS_OF_TWO - 1, True), (PROMPTS_OF_TWO, False)):
        with opened(Compares(bound=bound), CPU, "ranker=mine", in_one_order=in_one_order) as ready:
            assert len(ready.rank(PAIRS)) == PROMPTS_OF_TWO


DRAWS: list[float] = []


def drawn(prompt: str, answers: list[str]) -> list[float]:
    """Whole numbers that a judge draws: answers one by one may get those of the first call in other places."""
    return [DRAWS.pop(0) for _ in answers]


def test_a_judge_that_draws_is_not_taken_for_one_in_another_order() -> None:
    DRAWS[:] = [4, 3, *(4, 4), *(3, 4), *(3, 3), *(4, 3)]  # asked, turned, one by one, and twice as it stood
    with opened(function(drawn), CPU, "ranker=function") as ready:
        assert [each.scores for each in ready.rank(sets(("a", "b")))] == [(4, 3)]
    assert not DRAWS


def test_the_project_own_rankers_are_not_asked_twice() -> None:
    with opened(LengthRanker(), CPU, "ranker=length") as length, opened(RandomRanker(), CPU, "ranker=random") as random:
        assert isinstance(length, LengthRanker)
        assert isinstance(random, RandomRanker)


def test_a_member_of_an_ensemble_is_tried_too() -> None:
    both = EnsembleRanker(members={"mine": function(best_first), "length": LengthRanker()})
    with pytest.raises(RunError, match=f"^member mine of the ensemble {OTHER_ORDER}"):
        ask(both, sets(("ccc", "a", "bb")))


def test_a_member_of_an_ensemble_whose_scores_belong_to_places_is_refused() -> None:
    inner = EnsembleRanker(members={"mine": Compares(), "length": LengthRanker()})
    for both in (inner, EnsembleRanker(members={"inner": inner, "length": LengthRanker()})):
        said = pytest.raises(RunError, match=r"^member mine of the ensemble returned the same scores with both answers exchanged")
        with opened(both, CPU, "ranker=ensemble", in_one_order=True) as ready, said:
            ready.rank(PAIRS)
        with opened(both, CPU, "ranker=ensemble") as ready:
            assert len(ready.rank(PAIRS)) == PROMPTS_OF_TWO


def test_a_judge_of_answers_whose_scores_belong_to_places_is_refused() -> None:
    with pytest.raises(RunError, match=r"^ranker=function returned the same scores with both answers exchanged"):
        ask(function(prefers_the_first_place), PAIRS)
    told = verdicts_of(Compares(), PAIRS, CPU, name="judge", directory=None, in_one_order=False)
    assert len(told) == PROMPTS_OF_TWO
