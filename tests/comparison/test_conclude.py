"""The end of a sweep: a row for each run, the best run with the command that repeats it, and what the screen says."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from dpo_lab.comparison import table
from dpo_lab.comparison.conclude import conclude
from dpo_lab.comparison.jobs import JobRecord, SweepPlan
from dpo_lab.comparison.table import ROWS
from tests.comparison.simulated import on_disk


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Return a sweep of two strengths and two seeds, and of a fifth job that failed."""
    random, directory = np.random.default_rng(0), tmp_path / "outputs" / "sweep" / "train-beta-seed-1"
    hard = random.normal(0, 0.3, 80)
    settings = [(beta, seed) for beta in ("0.1", "1e-3") for seed in (0, 1)]
    jobs = [(f"recipe.beta={beta}", f"seed={seed}") for beta, seed in settings]
    plan = SweepPlan(
        stage="train", command="dpo-lab train -m recipe.beta=0.1,1e-3 seed=0,1", jobs=(*jobs, ("recipe.beta=9", "seed=0"))
    )
    plan.write(directory)
    for number, ((beta, seed), job) in enumerate(zip(settings, jobs, strict=True), start=1):
        gold = (0.8 if beta == "0.1" else 0.4) + 0.01 * seed + hard + random.normal(0, 0.1, 80)
        made = on_disk(tmp_path / "outputs", f"tiny-{number}", gold, {"loss": {"beta": float(beta)}, "seed": seed})
        begun = JobRecord.begun(number, job, "")
        replace(begun, state="finished", directory=str(made), command=f"dpo-lab train {' '.join(job)}", seconds=3.0).write(
            directory
        )
    failed = JobRecord.begun(5, ("recipe.beta=9", "seed=0"), "")
    replace(failed, state="failed", message="RuntimeError: no memory\nmore", seconds=1.0).write(directory)
    failed.log(directory).write_text("Traceback\n")
    return directory


def test_every_run_has_a_row_with_its_keys_its_figures_with_intervals_its_place_and_how_it_ended(sweep: Path) -> None:
    conclude(sweep)
    rows = list(csv.DictReader((sweep / "summary.csv").read_text().splitlines()))
    assert [row["recipe.beta"] for row in rows] == ["0.1", "0.1", "1e-3", "1e-3", "9"]  # the best first
    first, last = rows[0], rows[-1]
    assert float(first["gold/low"]) < float(first["gold/after"]) < float(first["gold/high"])
    assert (first["state"], first["seconds"], first["name"]) == (
        "finished",
        "12.0",
        f"{first['job']}-beta0.1-seed{first['seed']}",
    )
    assert Path(first["directory"]).is_dir()
    assert (last["state"], last["gold/after"], last["message"]) == ("failed", "", "RuntimeError: no memory")
    assert Path(last["log"]).read_text() == "Traceback\n"
    summary = json.loads((sweep / "summary.json").read_text())
    assert summary["command"] == "dpo-lab train -m recipe.beta=0.1,1e-3 seed=0,1"
    assert [row["name"] for row in summary["runs"]] == [row["name"] for row in rows]
    assert summary["winner"] == {"recipe.beta": 0.1}


def test_the_best_run_is_written_with_the_overrides_and_the_command_that_repeat_it(sweep: Path) -> None:
    conclude(sweep)
    best = yaml.safe_load((sweep / "best.yaml").read_text())
    assert best["overrides"][0] == "recipe.beta=0.1"
    assert best["command"] == f"dpo-lab train {' '.join(best['overrides'])}"
    assert best["winner"] is True
    assert Path(best["run"]).is_dir()


def test_the_screen_has_swept_keys_means_and_spreads_directories_and_what_failed_with_its_log(sweep: Path) -> None:
    ended = conclude(sweep)
    said = "\n".join(ended.lines)
    assert "5 jobs, 4 finished, 1 failed" in ended.lines
    assert "  beta  mean gold/after  spread  seeds" in ended.lines
    directories = [line.split()[-1] for line in ended.lines if "finished " in line and "tiny-" in line]
    assert len(directories) == 4
    assert all(Path(directory).is_dir() for directory in directories)
    assert "failed: 5-beta9-seed0: RuntimeError: no memory" in ended.lines
    assert f"  log {sweep / 'jobs' / '005.log'}" in ended.lines
    assert "recipe.beta=0.1 is best by gold/after" in said
    assert [run.name for run in ended.unfinished] == ["5-beta9-seed0"]


def test_every_run_is_linked_by_a_name_that_says_what_is_swept(sweep: Path, tmp_path: Path) -> None:
    conclude(sweep)
    (tmp_path / "outputs").rename(tmp_path / "moved")
    links = sorted((tmp_path / "moved" / "sweep" / sweep.name / "runs").iterdir())
    assert [link.name for link in links] == ["1-beta0.1-seed0", "2-beta0.1-seed1", "3-beta1e-3-seed0", "4-beta1e-3-seed1"]
    assert all((link / "summary.json").is_file() for link in links)


def test_a_sweep_that_was_moved_with_its_outputs_finds_its_runs(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "outputs").rename(tmp_path / "moved")
    ended = conclude(tmp_path / "moved" / "sweep" / sweep.name)
    assert all(run.record.summary for run in ended.runs[:4])


def test_a_sweep_of_a_hundred_jobs_stays_readable(tmp_path: Path) -> None:
    jobs = tuple((f"seed={seed}",) for seed in range(100))
    SweepPlan(stage="train", command="", jobs=jobs).write(tmp_path / "outputs" / "sweep" / "s")
    for number in range(1, 51):
        record = JobRecord.begun(number, jobs[number - 1], "")
        replace(record, state="failed", message="no").write(tmp_path / "outputs" / "sweep" / "s")
    lines = conclude(tmp_path / "outputs" / "sweep" / "s").lines
    assert "100 jobs, 0 finished, 50 failed, 50 not started" in lines
    assert len(lines) < 3 * ROWS + 10
    assert len((tmp_path / "outputs" / "sweep" / "s" / "summary.csv").read_text().splitlines()) == 101


@pytest.mark.parametrize("columns", [60, 80, 100, 120])
def test_rows_of_a_table_fit_the_terminal_and_lose_nothing(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "room", lambda: columns)
    head = ["job", "loss", "lr", "seed", "gold/after", "95 %", "state", "seconds", "directory"]
    row = ["1", "dpo", "1e9", "0", ".91", "[.88, .93]", "finished", "61", "outputs/train/tiny-dpo-films-3f9c2a10"]
    lines = table.aligned("runs", head, [row])
    assert max(map(len, lines)) <= columns
    assert all(cell in "\n".join(lines) for cell in row)


def test_a_table_of_a_file_keeps_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "room", lambda: None)
    assert table.aligned("runs", ["a", "b"], [["1" * 200, "2"]])[2] == f"  {'1' * 200}  2"
