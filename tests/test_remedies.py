"""What a message proposes works when it is typed, until the run begins."""

import json
import re
from pathlib import Path

import pytest

from dpo_lab.cli.main import main
from dpo_lab.components import RunError
from dpo_lab.rules.check import refuse_illegal
from dpo_lab.stages.train import Train
from tests.models.directories import model_directory


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the words that name a small model; a run that gets as far as training says so."""

    def reached(*arguments: object, **settings: object) -> None:
        raise RunError("reached")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dpo_lab.pipeline.rounds.run_rounds", reached)
    return ["model=local", f"model.path={model_directory(tmp_path / 'model', 'qwen2')}", "recipe.max_length=64"]


def proposed(message: str) -> list[str]:
    """Return the settings that a message names."""
    return re.findall(r"\b[a-z_]+(?:\.[a-z_]+)*=[^\s,;:()]+", message)


def test_a_file_of_prompts_leads_to_a_run_on_its_prompts(
    model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"Question {number}?"}) for number in range(10)))
    assert main(["train", *model, "data=jsonl", f"data.path={path}"]) == 1
    first = proposed(capsys.readouterr().err)
    assert first == ["data=on_policy", "prompts=jsonl", f"prompts.path={path}"]
    assert main(["train", *model, *first, "ranker=length"]) == 1
    assert capsys.readouterr().err == "error: reached\n"
    assert main(["train", *model, *first, "ranker=gold"]) == 2
    assert "ranker=length" in proposed(capsys.readouterr().err)


def test_rounds_without_prompts_are_refused_before_the_first_with_a_number_that_works(
    model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"Question {number}?"}) for number in range(10)))
    words = ["train", *model, "data=on_policy", "prompts=jsonl", f"prompts.path={path}", "ranker=length", "iteration.rounds=3"]
    assert main(words) == 2
    remedies = proposed(capsys.readouterr().err)
    assert remedies[-2:] == ["prompts.num_prompts=2", "iteration.prompts=same"]
    for remedy in remedies[-2:]:
        assert main([*words, remedy]) == 1
        assert capsys.readouterr().err == "error: reached\n"


def test_prompts_without_any_for_evaluation_are_refused(
    model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"Question {number}?"}) for number in range(3)))
    words = ["train", *model, "data=on_policy", "prompts=jsonl", f"prompts.path={path}", "ranker=length"]
    assert main(words) == 2
    assert "use prompts.num_held_out=N with N above 0" in capsys.readouterr().err
    assert main([*words, "prompts.num_held_out=1"]) == 1
    assert capsys.readouterr().err == "error: reached\n"


RULES = {  # a rule that is broken: what its message proposes on this command line
    "FILE evaluation=generation prompts=films": ["evaluation=preference without prompts=films"],
    "FILE iteration.rounds=3": ["iteration.rounds=1", "model=smollm2_135m data=on_policy without data.path=mine.jsonl"],
    "evaluation=preference": ["evaluation=generation"],
    "reference=none": ["reference=cached", "loss=simpo"],
    "reference=adapter_off adapter=lora": ["reference=previous_adapter", "iteration.reference=first"],
    "reference=ema loss=simpo": ["reference=none"],
    "loss=sppo_soft ranker=length": ["loss=dpo"],
    "layout.attention=flex": ["layout.attention=sdpa"],
    "precision=bf16_true adapter=dora recipe.lr=1e-3": ["precision=bf16", "adapter=lora"],
}


@pytest.mark.parametrize("typed", RULES)
def test_a_rule_proposes_what_works_on_the_command_line_that_it_answers(
    typed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def accepted(stage: Train) -> None:
        refuse_illegal(stage)
        raise RunError("accepted")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Train, "run", accepted)
    words = typed.replace("FILE", "data=jsonl data.path=mine.jsonl").split()
    assert main(["train", *words]) == 2
    said = capsys.readouterr().err
    for remedy in RULES[typed]:
        assert remedy in said
        setting, _, left_out = remedy.partition(" without ")
        typed_again = setting.split()
        replaced = {word.partition("=")[0] for word in typed_again}
        rest = [word for word in words if word.partition("=")[0] not in replaced and word != left_out]
        assert main(["train", *rest, *typed_again]) == 1
        assert capsys.readouterr().err == "error: accepted\n"
