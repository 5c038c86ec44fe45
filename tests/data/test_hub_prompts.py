"""Facts about prompts of a data set in Hub layout: rounds share none, evaluation keeps its own, faulty ones are left out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.components import ConfigError
from dpo_lab.data.problems import DataError
from dpo_lab.data.prompts import HubPrompts
from tests.data.hub_directories import written

pytestmark = pytest.mark.usefixtures("library_cache")


def prompts(root: Path, train: list[Any], test: list[Any], **fields: Any) -> HubPrompts:
    table = {"train.jsonl": [{"prompt": each} for each in train], "test.jsonl": [{"prompt": each} for each in test]}
    return HubPrompts(path=str(written(root / "set", table)), split="train", held_out_split="test", **fields)


def texts(found: list[Any]) -> list[str]:
    return [prompt.text for prompt in found]


def test_rounds_share_no_prompt_and_never_get_one_of_the_evaluation(tmp_path: Path) -> None:
    train, test = [f"q{n}?" for n in range(12)], ["q3?", "other?"]
    some = prompts(tmp_path, [*train, "q5?"], test, num_prompts=5)
    rounds = [texts(some.for_round(number, seed=0)) for number in (0, 1)]
    assert sorted([*rounds[0], *rounds[1]]) == sorted({*rounds[0], *rounds[1]})
    assert set(rounds[0] + rounds[1]) < set(train) - {"q3?"}
    assert set(texts(some.held_out())) == {"q3?", "other?"}
    assert texts(some.for_round(0, seed=0)) == rounds[0] != texts(some.for_round(0, seed=1))
    with pytest.raises(ConfigError, match=r"round 3: .* Use prompts.num_prompts=3, or iteration.prompts=same\.$"):
        some.for_round(2, seed=0)
    with pytest.raises(ConfigError, match=r"round 1: .* has 11 prompts in train\. Use prompts.num_prompts=11\.$"):
        prompts(tmp_path, train, test, num_prompts=12).for_round(0, seed=0)
    with pytest.raises(ConfigError, match=r", and rounds share none\. Use iteration.prompts=same\.$"):
        prompts(tmp_path / "few", ["a?"], test, num_prompts=1).for_round(1, seed=0)


def test_at_most_so_many_prompts_evaluate_and_always_the_same(tmp_path: Path) -> None:
    some = prompts(tmp_path, ["a?"], [f"q{n}?" for n in range(9)], num_held_out=4)
    assert len(some.held_out()) == 4
    assert some.held_out() == replace(some, num_prompts=7).held_out()


def test_turns_are_prompts_too(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": " Why? "}]
    (found,) = prompts(tmp_path, [turns], [[{"role": "user", "content": "a?"}]], num_prompts=1).for_round(0, seed=0)
    assert [turn["content"] for turn in found.messages] == ["Be kind.", "Why?"]


def test_a_faulty_prompt_is_left_out_and_named_and_many_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = prompts(tmp_path / "few", [f"q{n}?" for n in range(30)] + [" "], ["a?"], num_prompts=30)
    assert len(some.for_round(0, seed=0)) == 30
    assert (
        "set/train.jsonl (split train): 1 prompts left out (set/train.jsonl (split train) row 31: turn 1"
        in capsys.readouterr().out
    )
    many = prompts(tmp_path / "many", ["q?", " ", "\x00"], ["a?"], num_prompts=1)
    with pytest.raises(DataError, match=r"2 of 3 prompts cannot be used .*control_character.*prompts\.split"):
        many.for_round(0, seed=0)


def test_what_is_missing_is_asked_for_by_its_key(tmp_path: Path) -> None:
    some = prompts(tmp_path, ["a?"], ["b?"], num_prompts=1)
    with pytest.raises(DataError, match=r"has no split 'valid'; it has train, test\. Choose with prompts\.held_out_split="):
        replace(some, held_out_split="valid").held_out()
    written(tmp_path / "other", {"train.jsonl": [{"text": "a"}]})
    with pytest.raises(DataError, match=r"has no column prompt \(columns found: text\)"):
        replace(some, path=str(tmp_path / "other"), held_out_split="train").held_out()
    with pytest.raises(DataError, match=r"Correct prompts\.path"):
        replace(some, path="./nowhere").held_out()


def test_the_directory_counts_by_its_content(tmp_path: Path) -> None:
    one, two = (prompts(tmp_path / name, ["a?"], ["b?"]) for name in ("one", "two"))
    assert one.content() == two.content()
    assert one.content() != prompts(tmp_path / "three", ["c?"], ["b?"]).content()
