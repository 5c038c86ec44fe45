"""Launchers that run jobs at once, and what a sweep takes of the disk: known and limited before the first job starts."""

from pathlib import Path
from typing import Any

import pytest

from dpo_lab.cli import launchers
from dpo_lab.cli.main import main
from dpo_lab.cli.sweep_disk import DiskError, SweepDisk
from dpo_lab.stages.train import Train

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    RAN.clear()
    monkeypatch.setattr(Train, "run", lambda stage: RAN.append(stage))


@pytest.mark.parametrize(("gpu", "visible", "at_once"), [(False, None, 2), (True, None, 1), (True, "", 2), (True, "0,1", 1)])
def test_jobs_run_two_at_a_time_and_one_at_a_time_on_a_gpu(
    gpu: bool, visible: str | None, at_once: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(launchers, "GPUS", tmp_path if gpu else tmp_path / "absent")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert launchers.limits(["hydra/launcher=joblib"]) == [f"hydra.launcher.n_jobs={at_once}"]
    assert launchers.limits(["hydra/launcher=submitit_local"]) == [f"hydra.sweeper.max_batch_size={at_once}"]
    assert launchers.limits(["hydra/launcher=submitit_local", "hydra.sweeper.max_batch_size=7"]) == []
    assert launchers.limits(["hydra/launcher=submitit_slurm"]) == []  # a queue has its own limits


def test_what_a_sweep_writes_is_said_before_it_starts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", "seed=0,1", "model.hidden_size=32,64", "model.intermediate_size=64"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("4 runs to make: at least ")
    assert first.endswith(" free")


def test_a_sweep_that_does_not_fit_on_the_disk_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dpo_lab.memory.disk.free_disk", lambda directory: 1e6)
    assert main(["train", "-m", "seed=0,1"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: the 2 runs of this sweep write at least ")
    assert "and 1 MB are free. Use paths.outputs=DIR on a larger disk" in said.err
    assert (said.err.count("\n"), said.out, RAN, list(Path().iterdir())) == (1, "", [], [])


def test_a_search_counts_its_points_at_the_size_of_the_largest_and_finished_runs_count_nothing() -> None:
    disk = SweepDisk()
    disk.runs = {"a": 10e6, "b": 30e6}
    assert disk.told(points=4).startswith("4 runs to make: at least 120 MB")
    assert disk.told().startswith("2 runs to make: at least 40 MB")
    disk.runs = {"a": 1e30}
    with pytest.raises(DiskError, match="the 1 run of this sweep write"):
        disk.told()
    assert SweepDisk().told() == ""
