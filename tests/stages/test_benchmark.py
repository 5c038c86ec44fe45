"""The group `benchmark`: lm-evaluation-harness asked about models, beside our own figures, with a task of the test's own."""

import json
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_lab.components import ConfigError
from dpo_lab.evaluation import benchmark as module
from dpo_lab.evaluation.base import Setting
from dpo_lab.evaluation.benchmark import LMEvalBenchmark
from dpo_lab.evaluation.harness.model import KeepingLM
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.load import load_model
from dpo_lab.reference.cached import CachedReference
from tests.models.directories import model_directory
from tests.stages.test_evaluate_models import adapter_directory, evaluate, pairs, values

TASKS = ("choice", "completion")
CHOICE = """
task: choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
fewshot_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{options}}}}"
doc_to_target: "{{{{right}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""
COMPLETION = """
task: completion
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{options[right]}}}}"
generation_kwargs: {{until: ["."], do_sample: false, max_gen_toks: 4}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a base, an adapter on it, pairs, and two tasks about 40 questions."""
    place = tmp_path_factory.mktemp("benchmark")
    adapter_directory(place / "moved", model_directory(place / "base", "qwen2"), 0.1)
    tasks = place / "tasks"
    tasks.mkdir()
    rows = [
        {"question": f"what is {n} and {n % 7}?", "options": [f" yes {n}", f" no {n % 3} no", " maybe"], "right": n % 3}
        for n in range(40)
    ]
    (tasks / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tasks / "choice.yaml").write_text(CHOICE.format(rows=tasks / "rows.jsonl"))
    (tasks / "completion.yaml").write_text(COMPLETION.format(rows=tasks / "rows.jsonl"))
    given = [{"prompt": f"q {n}", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(10)]
    (place / "pairs.jsonl").write_text("\n".join(map(json.dumps, given)))
    return place


def asking(place: Path, **fields: Any) -> LMEvalBenchmark:
    return LMEvalBenchmark(**{"tasks": TASKS, "include_path": place / "tasks", **fields})


@pytest.mark.parametrize("num_fewshot", [None, 2])
def test_base_and_tuned_model_have_the_harness_own_figures_beside_ours(place: Path, num_fewshot: int | None) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    report = evaluate(place, "moved", data=pairs(place), benchmark=asking(place, num_fewshot=num_fewshot)).run()
    assert [each["name"] for each in report["parts"]] == ["pairs", "benchmark"]
    manager = TaskManager(include_path=str(place / "tasks"), include_defaults=False)
    for model, more in (("base", {}), ("moved", {"peft": str(place / "moved")})):
        arguments = {"pretrained": str(place / "base"), "dtype": "float32", "add_bos_token": None, **more}
        how: dict[str, Any] = {
            "model": "hf",
            "model_args": arguments,
            "device": "cpu",
            "batch_size": 8,
            "num_fewshot": num_fewshot,
        }
        own: Any = simple_evaluate(tasks=list(TASKS), task_manager=manager, bootstrap_iters=0, **how)
        ours = values(report, "benchmark", model)
        expected = {
            f"lm_eval/{task}/{metric}": own["results"][task][f"{metric},none"]
            for task, metric in (("choice", "acc"), ("choice", "acc_norm"), ("completion", "exact_match"))
        }
        assert {name: found["value"] for name, found in ours.items()} == pytest.approx(expected, abs=1e-12)
        assert 0 < (ours["lm_eval/choice/acc"]["value"] or 0) < 1
        assert (ours["lm_eval/choice/acc"]["low"] or 1) < expected["lm_eval/choice/acc"]
    path = next(place.glob("outputs/evaluation/moved-report-*/report.html"))
    assert "choice acc, lm-evaluation-harness" in path.read_text(encoding="utf-8")
    (figure,) = (each for each in report["parts"][1]["figures"] if each["name"] == "lm_eval/choice/acc")
    assert figure["comparisons"][0]["prompts"] == 40


def test_it_is_asked_alone_and_found_again_until_a_task_changes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    ask = KeepingLM.loglikelihood

    def counting(*each: Any, **more: Any) -> Any:
        counted.append("asked")
        return ask(*each, **more)

    monkeypatch.setattr(KeepingLM, "loglikelihood", counting)
    few = asking(place, tasks=("choice",), limit=5)
    report = evaluate(place, "base", benchmark=few, reference=CachedReference()).run()
    assert [each["name"] for each in report["parts"]] == ["benchmark"]
    evaluate(place, "base", benchmark=few).run()
    assert counted == ["asked"]
    before = few.content()
    (place / "tasks" / "note.txt").write_text("changed")
    assert few.content() != before
    assert replace(few, batch_size=2).content() == few.content()


def test_a_killed_benchmark_resumes_and_leaves_the_random_generators_alone(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = asking(place, tasks=("choice",), batch_size=1)
    model_call, calls = KeepingLM._model_call, [0]

    def killed(self: KeepingLM, *each: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] > 40:
            raise KeyboardInterrupt
        return model_call(self, *each, **more)

    monkeypatch.setattr(KeepingLM, "_model_call", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(place, "base", benchmark=few, outputs=place / "killed").run()
    monkeypatch.setattr(KeepingLM, "_model_call", model_call)
    state = torch.get_rng_state()
    found = values(evaluate(place, "base", benchmark=few, outputs=place / "killed").run(), "benchmark", "base")
    assert torch.equal(torch.get_rng_state(), state)
    assert "resuming lm_eval loglikelihood: 32 of 120 requests done" in capsys.readouterr().out
    whole = values(evaluate(place, "base", benchmark=few, outputs=place / "whole").run(), "benchmark", "base")
    assert found == whole


def test_what_cannot_be_asked_is_one_line_with_what_to_type(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(loss=DPOLoss(), reference=CachedReference())

    def said(**fields: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            asking(place, **fields).figures(setting)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    monkeypatch.setattr("lm_eval.tasks.TaskManager", small_catalogue)
    unknown = said(tasks=("choise",))
    assert "has no task 'choise'" in unknown
    assert "Did you mean 'choice'? `lm-eval ls tasks` lists its tasks; benchmark.include_path=DIR adds yours." in unknown
    assert "Name tasks of lm-evaluation-harness: tasks=[hellaswag,arc_easy]" in said(tasks=())
    assert "choice stands there twice" in said(tasks=("choice", "choice"))
    assert "is not a directory" in said(include_path=place / "nowhere")
    (place / "tasks" / "broken.yaml").write_text(CHOICE.format(rows="nowhere.jsonl").replace("choice\n", "broken\n", 1))
    assert "cannot load a task" in said(tasks=("broken",))

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", absent)
    assert said().endswith("Install it: pip install 'lm-eval>=0.4.13,<0.5'")


def small_catalogue(include_path: str | None = None, include_defaults: bool = True) -> Any:
    """Stand in for the harness's list of tasks, which takes seconds to read: the test's own tasks are all."""
    from lm_eval.tasks.manager import TaskManager

    return TaskManager(include_path=include_path, include_defaults=False)


def test_a_group_is_the_headline_and_has_the_documents_of_its_tasks(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lm_eval.tasks.TaskManager", small_catalogue)
    own = place / "grouped"
    own.mkdir()
    for name in ("one", "two"):
        rows = place / "tasks" / "rows.jsonl"
        (own / f"{name}.yaml").write_text(CHOICE.format(rows=rows).replace("task: choice", f"task: {name}"))
    (own / "both.yaml").write_text(
        "group: both\ntask: [one, two]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    )
    report = evaluate(place, "base", benchmark=asking(place, tasks=("both",), include_path=own)).run()
    found = {each["name"]: each for each in report["parts"][0]["figures"]}
    assert [name for name, each in found.items() if each["headline"]] == ["lm_eval/both/acc"]
    both, one = (found[f"lm_eval/{name}/acc"]["values"]["base"] for name in ("both", "one"))
    assert both["value"] == pytest.approx(one["value"])
    assert one["low"] < both["low"] < both["value"]  # twice the documents: a narrower interval


def test_a_model_in_bf16_is_asked_as_the_harness_asks_in_that_precision(place: Path) -> None:
    loaded = load_model(str(place / "base"))
    model = KeepingLM(loaded, batch_size=4, half=torch.bfloat16, name="lm_eval", directory=None)
    assert model._model_call(torch.tensor([[1, 2, 3]])).dtype == torch.bfloat16
