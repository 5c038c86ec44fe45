"""Prompts of a person's own file: which columns are read, how they are split, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.components import ConfigError
from dpo_lab.data.problems import DataError, RowProblem
from dpo_lab.data.prompt_files import FilePrompts, prompt_of
from dpo_lab.data.prompts import usable_prompt
from tests.data.hub_directories import written


def prompts(directory: Path, rows: list[Any], name: str = "mine.jsonl", **fields: Any) -> FilePrompts:
    path = directory / name
    lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) if path.suffix == ".jsonl" else f"[{', '.join(lines)}]")
    return FilePrompts(path=path, **fields)


def asked(found: list[Any]) -> list[str]:
    return [prompt.text for prompt in found]


QUESTIONS = [{"prompt": f"q{number}?"} for number in range(25)]


def test_a_fifth_is_held_out_and_no_round_gets_it(tmp_path: Path) -> None:
    some = prompts(tmp_path, [*QUESTIONS, QUESTIONS[3]])
    held_out, trained = asked(some.held_out()), asked(some.for_round(0, seed=0))
    assert len(held_out) == 5
    assert sorted(held_out + trained) == sorted(row["prompt"] for row in QUESTIONS)


def test_held_out_prompts_depend_on_the_split_seed_alone(tmp_path: Path) -> None:
    some = prompts(tmp_path, QUESTIONS)
    other = FilePrompts(path=some.path, split_seed=1)
    again = prompts(tmp_path, QUESTIONS[::-1], "other.json")
    assert asked(some.held_out()) == asked(again.held_out()) != asked(other.held_out())
    assert asked(some.for_round(0, seed=0)) != asked(some.for_round(0, seed=1))


def test_rounds_share_no_prompt_and_the_remedy_fits(tmp_path: Path) -> None:
    some = prompts(tmp_path, QUESTIONS)
    with pytest.raises(ConfigError, match=r"round 3: .*has 20 prompts beside 5 for evaluation.* Use prompts.num_prompts=6, or"):
        some.for_round(2, seed=0)
    fits = FilePrompts(path=some.path, num_prompts=6)
    rounds = [asked(fits.for_round(number, seed=0)) for number in range(3)]
    assert [len(texts) for texts in rounds] == [6, 6, 6]
    assert len({text for texts in rounds for text in texts}) == 18


def test_a_round_that_wants_more_prompts_than_there_are_is_not_sent_to_another_that_does(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r" for evaluation\. Use prompts.num_prompts=20.$"):
        prompts(tmp_path, QUESTIONS, num_prompts=40).for_round(0, seed=0)


def test_up_to_a_twentieth_of_the_prompts_may_be_unusable(tmp_path: Path) -> None:
    good, bad = QUESTIONS[:19], {"prompt": " "}
    assert len(prompts(tmp_path, [*good, bad], num_held_out=0).for_round(0, seed=0)) == 19
    with pytest.raises(DataError, match="2 of 20 prompts cannot be used"):
        prompts(tmp_path, [*good[1:], bad, bad], "worse.jsonl").held_out()


@pytest.mark.parametrize(
    "more", [{"images": ["a.png"]}, {"tools": [{"name": "clock"}]}, {"context": "Be brief."}, {"history": [["a", "b"]]}]
)
def test_what_belongs_to_a_prompt_and_is_not_read_is_refused_until_the_column_is_named(more: dict[str, Any]) -> None:
    with pytest.raises(RowProblem):
        prompt_of({"prompt": "Why?", **more})
    assert prompt_of({"prompt": "Why?", **more}, "prompt").text == "Why?"
    assert prompt_of({"prompt": "Why?", "images": [], "context": "", "source": "a book"}).text == "Why?"


def test_holding_out_everything_is_refused_with_a_number_that_works(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Use prompts.num_held_out=24 at most"):
        prompts(tmp_path, QUESTIONS, num_held_out=25).held_out()
    assert len(prompts(tmp_path, QUESTIONS, num_held_out=24).for_round(0, seed=0)) == 1


@pytest.mark.parametrize(
    ("row", "column", "text"),
    [
        ({"prompt": "Why?"}, None, "Why?"),
        ({"messages": [{"role": "user", "content": "Why?"}]}, None, "Why?"),
        ({"instruction": "Add.", "input": "1, 2"}, None, "Add.\n\n1, 2"),
        ({"instruction": "Add.", "input": ""}, None, "Add."),
        ({"question": "Why?", "id": 3}, None, "Why?"),
        ({"ask": "Why?", "prompt": "no"}, "ask", "Why?"),
    ],
)
def test_a_prompt_is_found_in_its_column(row: dict[str, Any], column: str | None, text: str) -> None:
    assert prompt_of(row, column).text == text


def test_what_cannot_be_read_is_said_with_the_key_to_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column prompt or messages .* among ask.*prompts\.column=NAME"):
        prompts(tmp_path, [{"ask": "Why?"}]).held_out()
    with pytest.raises(DataError, match=r"system beside prompt would be lost"):
        prompts(tmp_path, [{"prompt": "Why?", "system": "Be kind."}]).held_out()
    with pytest.raises(DataError, match=r"Correct prompts\.path"):
        FilePrompts(path=tmp_path / "absent.jsonl").held_out()


def test_a_changed_file_is_other_prompts(tmp_path: Path) -> None:
    before = prompts(tmp_path, QUESTIONS)
    content, first = before.content(), asked(before.held_out())
    after = prompts(tmp_path, [{"prompt": f"{row['prompt']}!"} for row in QUESTIONS])
    assert after.content() != content
    assert asked(after.held_out()) != first


@pytest.mark.usefixtures("library_cache")
def test_a_directory_is_read_too(tmp_path: Path) -> None:
    some = FilePrompts(path=written(tmp_path / "set", {"train.jsonl": QUESTIONS}))
    assert len(some.for_round(0, seed=0)) == 20
    assert some.label == "set"


def test_turns_that_do_not_end_with_the_user_are_no_prompt() -> None:
    user, assistant = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}
    assert usable_prompt([user, assistant, user]).messages[-1]["role"] == "user"
    with pytest.raises(RowProblem, match="the prompt does not end with a user turn"):
        usable_prompt([user, assistant])


def test_a_file_that_cannot_be_read_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("q?")
    FilePrompts(path=tmp_path).check_file()
    with pytest.raises(DataError, match=r"mine\.txt ends in '\.txt', .*prompts\.path=DIR"):
        FilePrompts(path=tmp_path / "mine.txt").check_file()
