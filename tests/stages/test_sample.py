"""The stage `sample`: answers are kept with the tokens that were drawn, and those of a training's first round are its own."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.cli.main import main
from tests.models.directories import model_directory

SMALL = ["sampler.num_samples=2", "sampler.max_new_tokens=4", "trainer=cpu"]


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the words that name a small model and four prompts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "asked.jsonl").write_text("\n".join(json.dumps({"prompt": f"Question {number}?"}) for number in range(5)))
    model_directory(tmp_path / "model", "qwen2")
    return ["model=local", "model.path=model", "prompts=jsonl", "prompts.path=asked.jsonl"]


def answers() -> list[dict[str, Any]]:
    (path,) = Path("outputs/candidates").glob("*/candidates.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_answer_is_kept_with_its_tokens_and_where_it_came_from(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", *words, *SMALL, "seed=3"]) == 0
    rows = answers()
    assert len(rows) == 4  # a fifth of the prompts is kept for evaluation
    assert all(len(row["responses"]) == len(row["token_ids"]) == len(row["logps"]) == 2 for row in rows)
    drawn = [each for row in rows for each in zip(row["token_ids"], row["logps"], strict=True)]
    assert all(1 <= len(ids) <= 4 and len(ids) == len(logps) for ids, logps in drawn)
    assert {row["sampling"]["num_samples"] for row in rows} == {2}
    said = capsys.readouterr().out
    assert "8 answers to 4 prompts" in said
    assert "candidates.jsonl" in said


def test_the_same_command_finds_the_answers_and_force_draws_them_again(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", *words, *SMALL]) == 0
    first = answers()
    capsys.readouterr()
    assert main(["sample", *words, *SMALL]) == 0
    assert "drawn before" in capsys.readouterr().out
    assert main(["sample", *words, *SMALL, "force=true"]) == 0
    assert "tokens/s" in capsys.readouterr().out
    assert answers() == first


@pytest.mark.slow
def test_a_training_takes_the_answers_that_were_drawn_for_its_first_round(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", *words, *SMALL]) == 0
    (path,) = Path("outputs/candidates").glob("*/candidates.jsonl")
    before = path.stat().st_mtime_ns
    more = ["data=on_policy", "ranker=length", "recipe.max_length=64", "trainer.max_steps=1", "evaluation.max_prompts=1"]
    assert main(["train", *words, *SMALL, *more]) == 0, capsys.readouterr().err
    assert [each.name for each in Path("outputs/candidates").glob("*/candidates.jsonl")] == [path.name]
    assert path.stat().st_mtime_ns == before


def test_a_model_that_answers_nothing_is_one_line(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpo_lab.sampling.hf.OpenHFSampler.texts", lambda self, answers: [""] * len(answers))
    assert main(["sample", *words, *SMALL]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: model answers nothing: all 8 answers to 4 prompts are empty")
    assert "sampler.temperature=1" in said
    assert said.count("\n") == 1


def test_while_answers_are_drawn_the_speed_and_the_time_left_are_shown(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpo_lab.progress.EVERY_SECONDS", 0.0)
    assert main(["sample", *words, *SMALL, "sampler.batch_size=2"]) == 0
    assert re.search(r"sample  2/4  \d+:\d\d left  [\d,]+ tokens/s", capsys.readouterr().out)


def test_a_model_that_a_training_makes_is_refused_with_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "prompts=films"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: model=tiny is made by a training for its data. ")
    assert said.count("\n") == 1


def test_settings_of_training_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", *words, "trainer.epochs=2"]) == 2
    assert "nothing is trained" in capsys.readouterr().err
