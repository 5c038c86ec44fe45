"""Pairs against the data's own answers: what is chosen, what is left out, and that nothing else is asked."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from dpo_lab.components import ConfigError
from dpo_lab.data.problems import DataError
from dpo_lab.data.prompt_files import FilePrompts
from dpo_lab.data.prompts import FilmPrompts
from dpo_lab.drawn import Drawn
from dpo_lab.losses.odpo import ODPOLoss
from dpo_lab.pipeline.on_policy import OnPolicy
from dpo_lab.pipeline.pairs import beside_own
from dpo_lab.ranking.controls import LengthRanker
from dpo_lab.ranking.gold import GoldRanker
from dpo_lab.ranking.pairing import Spin
from dpo_lab.records import Candidates, PreferencePair, Prompt
from dpo_lab.rules.data import answers_that_prompts_lack
from dpo_lab.sampling.hf import HFSampler
from dpo_lab.training.iteration import Iteration
from dpo_lab.world.parser import asked_title, parse
from tests.data.test_prompt_files import prompts
from tests.rules.test_combinations import LEGAL, message

DRAWN = (Drawn.of([5, 1], [-0.5, -1.0]), Drawn.of([6], [-2.0]))
ANSWERS = Candidates(prompt=Prompt.from_text("Why?"), responses=("a a", "b"), finished=(True, False), drawn=DRAWN)
SPIN = OnPolicy(prompts=FilmPrompts(), sampler=HFSampler(), ranker=LengthRanker(), pairing=Spin())
ONE_ROUND = Iteration(rounds=1)


def pairs_of(candidates: Candidates, own: str, counts: Counter[str] | None = None, **fields: int) -> list[PreferencePair]:
    return list(Spin(**fields).pairs([beside_own(candidates, own)], None, counts))  # type: ignore[arg-type]


def test_the_answer_of_the_data_is_chosen_over_every_drawn_one() -> None:
    first, second = pairs_of(ANSWERS, "own")
    assert [(pair.chosen, pair.rejected) for pair in (first, second)] == [("own", "a a"), ("own", "b")]
    assert first.scores == (None, None)
    assert first.preference is None
    assert second.finished == (True, False)  # the data's answer ended by itself


def test_drawn_tokens_stay_with_the_rejected_answer_and_survive_a_file() -> None:
    first, second = pairs_of(ANSWERS, "own")
    assert first.drawn == (None, DRAWN[0])
    again = PreferencePair.from_record(second.to_record("train"))
    assert again == second
    assert again.id == second.id != replace(second, drawn=()).id


def test_a_prompt_without_an_answer_and_an_answer_equal_to_the_drawn_one_are_counted() -> None:
    counts = Counter[str]()
    assert pairs_of(ANSWERS, "", counts) == []
    assert len(pairs_of(ANSWERS, "b", counts)) == 1
    assert len(pairs_of(replace(ANSWERS, responses=("a", "a")), "b", counts)) == 1
    assert len(pairs_of(ANSWERS, "a b c", counts, max_length_difference=1)) == 1
    assert counts == {"unanswered": 2, "equal_texts": 1, "repeated": 1, "lengths": 1}


def test_films_have_an_answer_that_names_the_asked_film() -> None:
    asked = FilmPrompts(num_prompts=20).for_round(0, seed=0)
    answers = FilmPrompts().answers(asked, seed=0)
    assert answers == FilmPrompts().answers(asked[::-1], seed=0)[::-1]  # each from its prompt alone
    for prompt, answer in zip(asked, answers, strict=True):
        assert asked_title(prompt.text) in answer
        assert parse(prompt.text, answer).well_formed == 1


def test_a_file_answers_in_known_columns_or_in_the_one_that_is_named(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "q2?"}, {"role": "assistant", "content": " two "}]
    rows = [
        {"prompt": "q0?", "answer": "zero"},
        {"prompt": "q1?", "chosen": "one", "other": "1"},
        {"prompt": "q2?", "chosen": turns},
    ]
    some = prompts(tmp_path, [*rows, {"prompt": "q3?"}, {"prompt": "q0?", "answer": "later"}])
    asked = [Prompt.from_text(f"q{number}?") for number in range(4)]
    assert some.answers(asked, seed=0) == ["zero", "one", "two", ""]
    assert replace(some, answer="other").answers(asked, seed=0) == ["", "1", "", ""]
    with pytest.raises(DataError, match=r"has no column replies \(prompts.answer\); it has prompt, answer, chosen, other"):
        replace(some, answer="replies").answers(asked, seed=0)


@pytest.mark.parametrize(("without", "refused"), [(1, False), (2, True)])
def test_up_to_a_twentieth_of_the_prompts_may_be_without_an_answer(tmp_path: Path, without: int, refused: bool) -> None:
    rows = [{"prompt": f"q{number}?", "answer": "" if number < without else "yes"} for number in range(20)]
    data = replace(SPIN, prompts=replace(prompts(tmp_path, rows), num_held_out=0))
    found = answers_that_prompts_lack(data, ONE_ROUND, 0)
    assert bool(found) == refused
    if found:
        assert found.startswith(
            "pairing=spin sets the data's own answer against drawn ones, and 2 of 20 prompts of mine have none"
        )
        assert found.endswith("name the column that holds answers (prompts.answer=NAME), or use pairing=best_vs_worst.")
    assert answers_that_prompts_lack(replace(data, pairing=LEGAL.data.pairing), ONE_ROUND, 0) is None  # type: ignore[attr-defined]


def test_no_ranker_is_asked_so_that_none_can_be_wrong(tmp_path: Path) -> None:
    other = FilePrompts(path=tmp_path / "p.jsonl")
    with pytest.raises(ConfigError, match="gold can judge answers about films only"):
        replace(LEGAL.data, prompts=other).check()  # type: ignore[type-var]
    replace(SPIN, prompts=other, ranker=GoldRanker()).check()
    assert SPIN.ranked_by is None
    assert SPIN.idle().keys() == {"ranker"}
    assert SPIN.content() == replace(SPIN, ranker=GoldRanker()).content()
    replace(SPIN, sampler=HFSampler(temperature=0)).check()  # one greedy answer stands against the data's


def test_a_loss_that_reads_scores_is_refused() -> None:
    assert message(data=SPIN) == ""
    expected = "this loss reads the ranker's scores, and pairing=spin gives none; use loss=dpo."
    assert message(data=SPIN, loss=ODPOLoss()) == expected
