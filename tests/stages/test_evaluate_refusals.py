"""What `evaluate` refuses: each in one line that says what to type, and nothing half-written counts as finished."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.components import ConfigError, RunError
from dpo_lab.data.problems import DataError
from dpo_lab.losses.simpo import SimPOLoss
from dpo_lab.models.spec import TinyModel
from dpo_lab.reference.ema import EMAReference
from dpo_lab.reference.none import NoReference
from tests.models.directories import model_directory
from tests.stages.test_evaluate_models import SilentJudge, adapter_directory, answers, evaluate, pairs, values


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("refused")
    adapter_directory(place / "moved", model_directory(place / "base", "qwen2"), 0.1)
    rows = [{"prompt": f"q {number}", "chosen": f"yes {number}", "rejected": f"no {number}"} for number in range(10)]
    (place / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (place / "one.jsonl").write_text(json.dumps(rows[0]))
    asked = [{"prompt": f"what is {number}?"} for number in range(10)]
    (place / "asked.jsonl").write_text("\n".join(map(json.dumps, asked)))
    return place


def refused(place: Path, *models: str, **fields: Any) -> str:
    with pytest.raises((ConfigError, DataError, RunError)) as caught:
        evaluate(place, *models, **fields).run()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_that_is_missing_or_has_nothing_to_be_compared_with(place: Path) -> None:
    said = refused(place, "nowhere", evaluation=answers(place))
    assert "nowhere is neither a directory" in said
    assert said.endswith("Correct models.")
    said = refused(place, "base", data=pairs(place))
    assert "nothing says which that is. Use base=DIR" in said
    found = evaluate(place, "base", data=pairs(place), reference=NoReference(), loss=SimPOLoss()).run()  # what it proposes
    assert values(found, "pairs", "base")["eval/pairs"]["value"] == 10
    assert "is made by a training for its data" in refused(place, model=TinyModel(), evaluation=answers(place))
    assert "stands there twice" in refused(place, "base", "base", evaluation=answers(place))
    assert "against=x is not among the models; use one of base" in refused(place, "base", evaluation=answers(place), against="x")
    assert refused(place).startswith("nothing to evaluate. Use models=[DIR,...]")
    assert "belongs to a training" in refused(place, "base", evaluation=answers(place), reference=EMAReference())


def test_without_pairs_or_with_none_held_out(place: Path) -> None:
    assert refused(place, "moved").startswith("There are no held-out pairs to measure on. Use data=jsonl")
    said = refused(place, "moved", data=pairs(place, held_out=0))
    assert said.startswith("data: none of the 10 pairs is held out, so there is nothing to measure on. Use data.held_out=all")
    said = refused(place, "moved", sets={"mine": pairs(place, "asked")})
    assert said.startswith("sets.mine: these are prompts without answers. Let the models answer them: evaluation=generation")
    assert "sets.mine.path" in refused(place, "moved", sets={"mine": pairs(place, "absent")})
    assert "leave sets out" in refused(place, "moved", evaluation=answers(place), sets={"mine": pairs(place)})
    assert "has no such column; it has prompt, chosen" in refused(place, "moved", data=pairs(place), category="nix")


def test_answers_without_prompts(place: Path) -> None:
    (place / "asked.jsonl").rename(place / "kept.jsonl")
    (place / "asked.jsonl").write_text(json.dumps({"output": "an answer"}))
    try:
        assert "no column prompt or messages" in refused(place, "base", evaluation=answers(place))
    finally:
        (place / "kept.jsonl").replace(place / "asked.jsonl")


def test_one_prompt_has_figures_and_no_interval(place: Path) -> None:
    assert "Use data.held_out=all" in refused(place, "moved", data=pairs(place, "one", held_out=None))
    found = values(evaluate(place, "moved", data=pairs(place, "one")).run(), "one", "moved")
    assert found["eval/loss"]["value"] is not None
    assert {(each["low"], each["high"]) for each in found.values()} == {(None, None)}


def test_a_judge_that_says_nothing_leaves_nothing_that_counts_as_finished(place: Path) -> None:
    outputs = place / "silent"
    said = refused(place, "base", evaluation=answers(place, SilentJudge(about="what")), outputs=outputs)
    assert said.startswith("judge=silent failed for all 10 prompts")
    assert not list(outputs.glob("evaluation/*/manifest.json"))
    assert not list(outputs.glob("evaluation/*/report.*"))
