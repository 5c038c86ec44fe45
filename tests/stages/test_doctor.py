"""The stage `doctor`: what it prints, and its exit codes."""

from pathlib import Path

import pytest

from dpo_lab.cli import main
from dpo_lab.scoring import rounding
from dpo_lab.stages import doctor, fits

ROOT = Path(__file__).resolve().parents[2]
GIVEN = ("data=jsonl", f"data.path={ROOT / 'docs' / 'example_pairs.jsonl'}")


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
    monkeypatch.setattr(fits, "available", lambda device: 50e6)  # weights, gradients and optimizer fit, passes do not
    assert examined(tmp_path) == 1
    assert "Use recipe.token_budget=" in capsys.readouterr().err


def test_a_disk_that_is_full_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "free_disk", lambda outputs: 1e6)
    assert examined(tmp_path) == 1
    assert "MB of disk, 1.0 MB free. Use paths.outputs=DIR." in capsys.readouterr().err


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


def test_rows_of_the_longest_store_are_as_long_as_they_may_be() -> None:
    store = doctor.longest_rows(30, 4)
    assert store.row_lengths.tolist() == [30] * 8
    assert store.num_pairs == 4
