"""trainer.head_tokens reaches the training of the policy alone, in each of its processes, whose id alone has it."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dpo_lab.memory import tracing
from dpo_lab.memory.check import memory_plan
from dpo_lab.memory.unmade import longest_rows
from dpo_lab.pipeline import policy, rounds, while_training
from dpo_lab.pipeline.round import Round, policy_content
from dpo_lab.pipeline.rounds import training_of
from dpo_lab.scoring.head import CHUNK, tokens_at_once, tokens_of_chunk
from dpo_lab.training.settings import TrainerSettings
from tests.small_stage import given, pairs_file


def test_a_run_that_does_not_set_it_keeps_its_name() -> None:
    assert "head_tokens" not in TrainerSettings().content()
    assert TrainerSettings(head_tokens=64).content()["head_tokens"] == 64


DEFAULT = CHUNK // 10


def test_the_parts_around_the_training_of_the_policy_do_not_see_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base model, a reference or an evaluation has one id with and without it, so it has one content."""
    seen: dict[str, int] = {}
    train = given(tmp_path, pairs_file(tmp_path), trainer=TrainerSettings(accelerator="cpu", head_tokens=7))

    def sees(part: str, result: Any = None) -> Any:
        return lambda *given, **named: (seen.update({part: tokens_of_chunk(10)}), result)[1]

    monkeypatch.setattr(rounds, "opened", sees("base model", SimpleNamespace(summary={})))
    monkeypatch.setattr(rounds, "play_rounds", sees("rounds"))
    monkeypatch.setattr(
        rounds, "finish", lambda state, directory, about: (sees("end")(), (directory / "summary.json").write_text("{}"))
    )
    monkeypatch.setattr("dpo_lab.pipeline.rounds.Recorder.finish", lambda *given: None)
    monkeypatch.setattr("dpo_lab.pipeline.rounds.run_record.about_run", lambda *given: {"samples": [], "lineage": []})
    train.run()

    this: Any = SimpleNamespace(number=1, evaluated=None, base=SimpleNamespace(path="", storage=SimpleNamespace(revision="")))
    weights = SimpleNamespace(parameters=list)
    prepared: Any = SimpleNamespace(
        module=SimpleNamespace(policy=weights),
        batches=None,
        total_steps=1,
        tokenizer=None,
        notes=(),
        attention="",
        reference_seconds=0.0,
    )
    figures = SimpleNamespace(newest_step=1, notes=(), first={"loss": 0.0}, newest={"loss": 0.0}, seconds=0.0)
    monkeypatch.setattr(policy, "_begun", sees("reference", (this, prepared, None)))
    monkeypatch.setattr(policy, "fit", sees("training", figures))
    monkeypatch.setattr(policy, "save_model", sees("policy saved"))
    for name in ("base_of", "record_of"):
        monkeypatch.setattr(policy, name, lambda *given: None)
    store: Any = SimpleNamespace(num_items=1)
    policy.train_policy(training_of(train), this, store, tmp_path)
    assert seen == dict.fromkeys(("base model", "rounds", "end", "reference", "policy saved"), DEFAULT) | {"training": 7}

    monkeypatch.setattr(policy, "_prepared", sees("reference of a worker", prepared))
    monkeypatch.setattr(policy, "fit", sees("training of a worker"))
    other: Any = None
    meet: Any = nullcontext
    policy._train_as_worker(training_of(train), this, store, tmp_path, other, meet)
    assert (seen["reference of a worker"], seen["training of a worker"]) == (DEFAULT, 7)
    assert tokens_of_chunk(10) == DEFAULT


def test_a_policy_is_measured_without_it_while_it_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[int]()

    def measure(context: Any) -> Any:
        seen.append(tokens_of_chunk(10))
        return SimpleNamespace(figures={})

    way: Any = SimpleNamespace(prompts=(), figures=(), _answers=lambda model: [])
    monkeypatch.setattr(while_training, "replace", lambda context, **changed: context)
    measured: Any = while_training.WhileTraining._measured
    with tokens_at_once(7):
        measured(way, SimpleNamespace(measure=measure), None, None, [], None)
        assert tokens_of_chunk(10) == 7
    assert seen == [DEFAULT]


def test_the_content_of_a_policy_has_it_where_it_is_set(tmp_path: Path) -> None:
    train = given(tmp_path, pairs_file(tmp_path))
    model: Any = SimpleNamespace(id="m")
    store: Any = SimpleNamespace(fingerprint=lambda: "t", label_digest=lambda name: name)
    this = Round(1, "r", model, model, model)
    plain = policy_content(training_of(train), this, store)
    changed = replace(train, trainer=replace(train.trainer, head_tokens=7))
    assert policy_content(training_of(changed), this, store) == {**plain, "trainer": {**plain["trainer"], "head_tokens": 7}}


def test_the_memory_plan_has_it_in_training_and_not_in_scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, int] = {}

    def sees(part: str, result: Any) -> Any:
        return lambda *given, **named: (seen.update({part: tokens_of_chunk(10)}), result)[1]

    monkeypatch.setattr(tracing, "of_training", sees("training", (0.0, 0.0)))
    monkeypatch.setattr(tracing, "of_scoring", sees("scoring", (0.0, 0.0)))
    monkeypatch.setattr(tracing, "most_of_trial", sees("trial", 0.0))
    settings = TrainerSettings(accelerator="cpu", head_tokens=7)
    memory_plan(given(tmp_path, pairs_file(tmp_path), trainer=settings), longest_rows(64, 2))
    assert seen == {"training": 7, "scoring": DEFAULT, "trial": DEFAULT}
