"""trainer.head_tokens reaches every pass of a run, in each of its processes, and is no part of a run that does not set it."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dpo_lab.pipeline import policy, rounds
from dpo_lab.pipeline.rounds import training_of
from dpo_lab.scoring.head import CHUNK, tokens_of_chunk
from dpo_lab.training.settings import TrainerSettings
from tests.small_stage import given, pairs_file


def test_a_run_that_does_not_set_it_keeps_its_name() -> None:
    assert "head_tokens" not in TrainerSettings().content()
    assert TrainerSettings(head_tokens=64).content()["head_tokens"] == 64


def test_a_run_and_the_processes_beside_it_take_so_many_tokens_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[int]()
    train = given(tmp_path, pairs_file(tmp_path), trainer=TrainerSettings(accelerator="cpu", head_tokens=7))
    monkeypatch.setattr(rounds, "play_rounds", lambda state: seen.append(tokens_of_chunk(10)))
    monkeypatch.setattr(rounds, "opened", lambda *given, **named: SimpleNamespace(summary={}))
    monkeypatch.setattr(rounds, "finish", lambda state, directory, about: (directory / "summary.json").write_text("{}"))
    monkeypatch.setattr("dpo_lab.pipeline.rounds.Recorder.finish", lambda *given: None)
    monkeypatch.setattr("dpo_lab.pipeline.rounds.run_record.about_run", lambda *given: {"samples": [], "lineage": []})
    train.run()
    monkeypatch.setattr(policy, "_prepared", lambda *given: SimpleNamespace(module=None, batches=None, total_steps=1))
    monkeypatch.setattr(policy, "fit", lambda *given, **named: seen.append(tokens_of_chunk(10)))
    this: Any = SimpleNamespace(number=1, evaluated=None)
    store: Any = None
    group: Any = None
    meet: Any = nullcontext
    policy._train_as_worker(training_of(train), this, store, tmp_path, group, meet)
    assert seen == [7, 7]
    assert tokens_of_chunk(10) == CHUNK // 10
