"""The stage `doctor`: what it prints, and its exit codes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dpo_lab.amounts import bytes_text
from dpo_lab.cli.main import main
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.memory import check as fits
from dpo_lab.memory import disk
from dpo_lab.memory.plan import largest
from dpo_lab.memory.unmade import longest_rows
from dpo_lab.reference.none import NoReference
from dpo_lab.scoring import rounding
from dpo_lab.training.settings import TrainerSettings

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("model.num_layers=1", "model.hidden_size=32", "model.intermediate_size=48", "model.num_heads=2")
GIVEN = ("data=jsonl", f"data.path={ROOT / 'docs' / 'example_pairs.jsonl'}", *SMALL)


def examined(outputs: Path, *more: str) -> int:
    """Return the exit code of the doctor on the example pairs."""
    return main(["doctor", *GIVEN, f"paths.outputs={outputs}", *more])


def test_a_training_that_fits_is_described_and_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert examined(tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    for start in ("reference ", "memory ", "  weights ", "  estimated peak ", "lengths ", "disk ", "time ", "step 0 ", "fits"):
        assert sum(line.startswith(start) for line in lines) == 1, start
    assert lines[-1] == "fits"
    assert not list((tmp_path / "policy").glob("*")) if (tmp_path / "policy").exists() else True
    assert not (tmp_path / "train").exists()
    (kept,) = (tmp_path / "tokens").glob("*/manifest.json")
    assert main(["train", *GIVEN, f"paths.outputs={tmp_path}", "trainer.max_steps=1"]) == 0
    assert kept in set((tmp_path / "tokens").glob("*/manifest.json")), "the run takes the doctor's tokens"
    assert len(list((tmp_path / "tokens").glob("*round1-[0-9a-f]*/manifest.json"))) == 1


def test_a_training_that_does_not_fit_ends_with_1_and_the_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fits, "available", lambda device: 10e6)  # weights, gradients and optimizer fit, passes do not
    monkeypatch.setattr(fits, "smallest_change", lambda *_: "trainer.token_budget=64")  # tests/memory looks for it
    assert examined(tmp_path) == 1
    assert "Use trainer.token_budget=64" in capsys.readouterr().err


def test_a_disk_that_is_full_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(disk, "free_disk", lambda outputs: 1e6)
    assert examined(tmp_path) == 1
    assert "MB of disk, 1 MB free. Use paths.outputs=DIR\n" in capsys.readouterr().err


def test_a_policy_that_is_not_its_reference_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rounding, "FP32", -1.0)  # less than no gap at all
    assert examined(tmp_path) == 1
    assert "policy and reference are the same model before the first step, yet differ by" in capsys.readouterr().err


def test_a_run_that_cannot_fit_is_refused_before_its_weights_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fits, "available", lambda device: 1e6)
    assert main(["train", *GIVEN, f"paths.outputs={tmp_path}"]) == 2
    assert "needs at least" in capsys.readouterr().err
    assert not list((tmp_path / "model").glob("*")) if (tmp_path / "model").exists() else True


@pytest.mark.parametrize(("keep", "bytes_written"), [(0, 0), (1, 2 * 300), (3, 4 * 300)])
def test_checkpoints_hold_the_optimizer_and_one_more_is_there_while_it_is_written(keep: int, bytes_written: int) -> None:
    plan: Any = SimpleNamespace(held=SimpleNamespace(trained_bytes=100), optimizer=200.0)
    written = disk.disk_of(plan, longest_rows(30, 1), 1.0, reference=NoReference(), rounds=2, checkpoints=keep)
    assert (written["checkpoints"], written["policies"]) == (bytes_written, 2 * 100)


def test_rows_of_the_longest_store_are_as_long_as_they_may_be() -> None:
    store = longest_rows(30, 4)
    assert store.row_lengths.tolist() == [30] * 8
    assert store.num_pairs == 4


@pytest.mark.parametrize(("epochs", "steps", "updated"), [(1, None, {False}), (2, None, {True}), (2, 1, {False})])
def test_the_optimizer_is_planned_where_an_epoch_is_one_step(epochs: int, steps: int | None, updated: set[bool]) -> None:
    store = longest_rows(30, 4)
    settings = TrainerSettings(batch_size=4, token_budget=64, epochs=epochs, max_steps=steps)
    assert {moment.updated for _, moment in largest(store, PaddedLayout(), settings, "shuffled", 0)} == updated


def test_a_round_of_made_pairs_is_planned_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", f"paths.outputs={tmp_path}", "prompts.num_prompts=500", "data.max_length=64", *SMALL]) == 0
    lines = capsys.readouterr().out.splitlines()
    (reference,) = (line for line in lines if line.startswith("reference "))
    tokens = 500 * 2 * (64 - 64 // 3)
    assert f"one pass over at most 1000 responses before training in each round, at most {bytes_text(tokens * 4)}" in reference
    trained = float(next(line for line in lines if line.startswith("memory ")).split()[4])
    (optimizer,) = (line for line in lines if line.startswith("  optimizer "))
    assert float(optimizer.split()[1]) == pytest.approx(8 * trained, rel=0.01), "two numbers in fp32 for each weight, in MB"
