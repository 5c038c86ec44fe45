"""The stage `evaluate` on models: bare ones, adapters and runs, on sets of held-out pairs and on prompts."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dpo_lab.components import component
from dpo_lab.data.prompt_files import FilePrompts
from dpo_lab.data.sources import FilePairs
from dpo_lab.evaluation.generation import GenerationEvaluation
from dpo_lab.evaluation.preference import PreferenceEvaluation
from dpo_lab.evaluation.several import SeveralMeasures
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.adapter import LoRA
from dpo_lab.models.load import ModelOnDisk, load_model, save_model
from dpo_lab.models.precision import Precision
from dpo_lab.pipeline.evaluated_models import short_names
from dpo_lab.ranking.base import Ranker, Verdict
from dpo_lab.ranking.controls import LengthRanker
from dpo_lab.records import Candidates
from dpo_lab.run_directory import RunDirectory
from dpo_lab.sampling.hf import HFSampler
from dpo_lab.stages.evaluate import Evaluate
from dpo_lab.training.settings import TrainerSettings
from tests.models.directories import model_directory
from tests.small_stage import given

TOPICS = ("art", "math", "math", "sport")


@torch.no_grad()
def adapter_directory(path: Path, base: Path, shake: float) -> Path:
    """Write an adapter on a base; without a shake it changes nothing."""
    loaded = load_model(str(base))
    policy = LoRA(rank=4).attach(loaded.model, 0)
    generator = torch.Generator().manual_seed(1)
    for weight in policy.parameters():
        if weight.requires_grad:
            weight.add_(shake * torch.randn(weight.shape, generator=generator))
    path.mkdir()
    save_model(policy, loaded.tokenizer, path, str(base.resolve()))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a base, two adapters on it, two files of pairs and one of prompts."""
    place = tmp_path_factory.mktemp("evaluate")
    base = model_directory(place / "base", "qwen2")
    adapter_directory(place / "still", base, 0.0)
    adapter_directory(place / "moved", base, 0.1)
    rows = [
        {
            "prompt": [{"role": "user", "content": f"question {number}?"}],
            "chosen": f"a good answer {number}",
            "rejected": f"no {number}",
            "topic": TOPICS[number % 4] if number else "alone",
        }
        for number in range(24)
    ]
    (place / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (place / "more.jsonl").write_text("\n".join(map(json.dumps, rows[12:])))
    asked = [{"prompt": f"what is {number}?", "topic": TOPICS[number % 4]} for number in range(12)]
    (place / "asked.jsonl").write_text("\n".join(map(json.dumps, asked)))
    return place


def evaluate(place: Path, *models: str, **fields: Any) -> Evaluate:
    paths = tuple(str(place / name) for name in models)
    parts: dict[str, Any] = {"trainer": TrainerSettings(accelerator="cpu"), "precision": Precision(mode="fp32")}
    return Evaluate(models=paths, **{**parts, "outputs": place / "outputs", **fields})


def pairs(place: Path, name: str = "pairs", held_out: Any = "all") -> FilePairs:
    return FilePairs(path=place / f"{name}.jsonl", held_out=held_out, max_length=64)


def answers(place: Path, judge: Ranker = LengthRanker(), **fields: Any) -> GenerationEvaluation:  # noqa: B008
    prompts = FilePrompts(path=place / "asked.jsonl", num_held_out="all")
    sampler = HFSampler(num_samples=1, max_new_tokens=6)
    return GenerationEvaluation(prompts=prompts, sampler=sampler, judge=judge, num_samples=1, **fields)


def values(report: dict[str, Any], part: str, model: str) -> dict[str, dict[str, float | None]]:
    """Return value and ends of every figure that a model has on a part."""
    (found,) = (each for each in report["parts"] if each["name"] == part)
    return {each["name"]: each["values"][model] for each in found["figures"] if model in each["values"]}


def test_an_adapter_that_changes_nothing_is_its_base_on_every_set(place: Path) -> None:
    report = evaluate(place, "still", data=pairs(place), sets={"more": pairs(place, "more")}).run()
    assert [each["name"] for each in report["parts"]] == ["pairs", "more"]
    for part in ("pairs", "more"):
        found = {name: each["value"] for name, each in values(report, part, "still").items()}
        assert found["eval/loss"] == pytest.approx(math.log(2), rel=1e-5)
        assert (found["eval/accuracy"], found["eval/rewards/accuracies_ties_half"], found["eval/margin"]) == (0.0, 0.5, 0.0)
        assert found["eval/perplexity/drift"] == pytest.approx(1.0, abs=1e-5)
        assert "low" in values(report, part, "still")["eval/accuracy"]
    assert {each["name"]: each["before"] for each in report["models"]} == {
        "still": str((place / "base").resolve()),
        "base": str((place / "base").resolve()),
    }


def test_on_answers_the_base_stands_beside_and_divergence_is_that_of_the_two(place: Path) -> None:
    report = evaluate(place, "still", evaluation=answers(place)).run()
    still, base = values(report, "answers", "still"), values(report, "answers", "base")
    assert still["kl"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert still["kl/k1"]["value"] == pytest.approx(0.0, abs=1e-5)
    assert "kl" not in base
    assert {"length", "answers/tokens", "answers/ended", "answers/distinct_1"} <= still.keys() & base.keys()
    moved = values(evaluate(place, "moved", evaluation=answers(place)).run(), "answers", "moved")
    low, high = moved["kl"]["low"], moved["kl"]["high"]
    assert low is not None
    assert high is not None
    assert 0.01 < low < high


def test_models_end_in_the_paired_sentence_and_verdicts_hold_what_it_rests_on(place: Path) -> None:
    evaluate(place, "still", "moved", data=pairs(place)).run()
    (path,) = (each for each in (place / "outputs" / "evaluation").glob("2-models-report-*/report.json"))
    report = json.loads(path.read_text(encoding="utf-8"))
    (margin,) = (each for each in report["parts"][0]["figures"] if each["name"] == "eval/margin")
    (found,) = margin["comparisons"]
    lines = [json.loads(line) for line in (path.parent / "verdicts.jsonl").read_text(encoding="utf-8").splitlines()]
    of_margin = [line for line in lines if line["figure"] == "eval/margin"]
    assert len(of_margin) == found["prompts"] == 24
    assert found["difference"] == pytest.approx(sum(each["still"] - each["moved"] for each in of_margin) / 24)
    page = (path.parent / "report.html").read_text(encoding="utf-8")
    assert found["sentence"] in page.replace("&#39;", "'")
    assert "://" not in page  # nothing is loaded from elsewhere


def test_nothing_is_measured_twice_alone_or_beside_others(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    load = ModelOnDisk.load

    def noted(self: ModelOnDisk, device: torch.device) -> Any:
        asked.append(Path(self.path).name)
        return load(self, device)

    outputs = place / "apart"
    both: dict[str, Any] = {"evaluation": answers(place), "outputs": outputs}
    monkeypatch.setattr(ModelOnDisk, "load", noted)
    evaluate(place, "still", **both).run()
    assert set(asked) == {"still", "base"}
    asked.clear()
    evaluate(place, "still", **both).run()
    assert asked == []
    evaluate(place, "still", "base", "moved", **both).run()
    assert set(asked) == {"moved", "base"}  # the base for the divergence of the new one
    assert len(list((outputs / "evaluation").glob("base-on-answers-*"))) == 1


def test_tables_by_category_count_prompts_and_one_prompt_has_no_interval(place: Path) -> None:
    both = SeveralMeasures(measures={"pairs": PreferenceEvaluation(), "answers": answers(place)})
    report = evaluate(place, "moved", data=pairs(place), evaluation=both, category="topic").run()
    on_pairs, on_answers = report["parts"]
    assert {pair["category"]: pair["prompts"] for pair in on_pairs["categories"]} == {
        "math": 12,
        "sport": 6,
        "art": 5,
        "alone": 1,
    }
    assert {answer["category"]: answer["prompts"] for answer in on_answers["categories"]} == {"math": 6, "art": 3, "sport": 3}
    alone = on_pairs["categories"][-1]["figures"]["eval/margin"]["moved"]
    assert (alone["low"], alone["high"]) == (None, None)
    weighted = sum(pair["prompts"] * pair["figures"]["eval/margin"]["moved"]["value"] for pair in on_pairs["categories"]) / 24
    assert weighted == pytest.approx(values(report, "pairs", "moved")["eval/margin"]["value"])


@component
class SilentJudge(Ranker):
    """Says nothing about some prompts, as a judge whose reply is empty."""

    label = "silent"
    about: str = "what is 1"

    def rank(self, candidates: Sequence[Candidates]) -> list[Verdict]:
        said = [math.nan if self.about in candidate.prompt.text else 1.0 for candidate in candidates]
        return [Verdict(scores=(score,) * len(each.responses)) for score, each in zip(said, candidates, strict=True)]


def test_prompts_about_which_the_judge_says_nothing_are_counted_and_left_out(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = evaluate(place, "moved", evaluation=answers(place, SilentJudge())).run()
    assert "judge=silent failed for 3 of 12 held-out prompts" in capsys.readouterr().out  # 1, 10 and 11
    assert values(report, "answers", "moved")["silent"] == {"value": 1.0, "low": None, "high": None}  # all say the same


def test_a_run_measured_anew_on_what_it_held_out_has_the_figures_of_its_training(place: Path) -> None:
    outputs = place / "trained"
    data = pairs(place, held_out=8)
    given(outputs, place / "pairs.jsonl", data=data).run()
    (run,) = (outputs / "train").glob("*/run.json")
    summary = RunDirectory(run.parent).summary()
    name = run.parent.name
    report = evaluate(run.parent.parent, name, data=data, outputs=outputs, loss=DPOLoss(beta=1.0)).run()
    found = values(report, "pairs", name)
    for figure in ("eval/accuracy", "eval/loss", "eval/margin", "eval/perplexity/chosen", "eval/perplexity/drift"):
        assert found[figure]["value"] == pytest.approx(summary[figure], rel=1e-4, abs=1e-6)
        assert found[figure]["low"] == pytest.approx(summary.get(f"{figure}/low"), rel=1e-4)


def test_names_are_as_short_as_they_can_be() -> None:
    assert short_names(["outputs/train/a", "org/a", "b"]) == ["train/a", "org/a", "b"]


def test_the_embedding_of_the_shaken_adapter_is_used(place: Path) -> None:
    """The double itself: the moved adapter is another policy than its base."""
    base, moved = (load_model(str(place / name)).model.eval() for name in ("base", "moved"))
    ids = torch.arange(10, 20)[None]
    assert isinstance(moved, nn.Module)
    assert (base(ids).logits - moved(ids).logits).abs().max() > 0.01
