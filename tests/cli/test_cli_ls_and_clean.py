"""`dpo-lab ls` and `dpo-lab clean`: what is there, what would go, and what goes."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from dpo_lab.cli.conf import groups, options
from dpo_lab.cli.main import main
from dpo_lab.comparison.jobs import JobRecord, SweepPlan
from tests.comparison.simulated import on_disk

SWEEP = Path("outputs/sweep/train-beta-1")


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return three runs; the first two are jobs of a sweep, of which the second is best; the last is 40 days old."""
    monkeypatch.chdir(tmp_path)
    made = [on_disk(Path("outputs"), f"run{n}", np.full(20, 0.3 + 0.2 * n), {"loss": {"beta": n}}) for n in range(3)]
    SweepPlan(stage="train", command="", jobs=(("recipe.beta=0",), ("recipe.beta=1",))).write(SWEEP)
    for number, path in enumerate(made[:2], start=1):
        record = JobRecord.begun(number, (f"recipe.beta={number - 1}",), "")
        JobRecord(**{**record.__dict__, "state": "finished", "directory": str(path)}).write(SWEEP)
    old = time.time() - 40 * 86400
    os.utime(made[2] / "manifest.json", (old, old))
    return made


def test_runs_are_listed_with_state_figure_age_and_size(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    (runs[0] / "manifest.json").unlink()
    (runs[0] / "begun.json").write_text('{"parents": []}')
    assert main(["ls", "runs"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("  run")}
    assert "unfinished  -" in lines[runs[0].name]
    assert "finished" in lines[runs[1].name]
    assert "gold/after .500" in lines[runs[1].name]
    assert "40 d" in lines[runs[2].name]
    assert "MB" in lines[runs[2].name]
    with FileLock(runs[0].parent / f".{runs[0].name}.lock"):
        assert main(["ls", "runs"]) == 0
    assert f"{runs[0].name}  running" in capsys.readouterr().out


def test_groups_options_and_experiments_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in groups())
    assert all(name in said for name in options("experiment"))
    assert main(["ls", "loss"]) == 0
    said = capsys.readouterr().out
    named = [line.split()[0] for line in said.splitlines()[1:] if line.strip() and line[2] != " "]  # what is longer is wrapped
    assert named == options("loss")


def gone(runs: list[Path]) -> list[int]:
    return [number for number, path in enumerate(runs) if not path.exists()]


WHAT_GOES = {
    "--older-than 30d": [2],
    "--sweep train-beta-1": [0, 1],
    "--not-best": [0],
    "--sweep train-beta-1 --older-than 1h": [],
    "outputs --sweep=outputs/sweep/train-beta-1 --not-best": [0],
}


@pytest.mark.parametrize("words", WHAT_GOES)
def test_what_meets_every_condition_goes_and_only_with_yes(
    words: str, runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["clean", *words.split()]) == 0
    assert gone(runs) == []
    said = capsys.readouterr().out
    assert [number for number, path in enumerate(runs) if f"would remove {path}" in said] == WHAT_GOES[words]
    count = len(WHAT_GOES[words])
    assert f"{count} run{'' if count == 1 else 's'} and {count} part" in said  # each has an evaluation of its own
    assert main(["clean", *words.split(), "--yes"]) == 0
    assert gone(runs) == WHAT_GOES[words]
    assert len(list(Path("outputs/evaluation").glob("*/manifest.json"))) == 3 - count


def test_a_run_that_a_process_works_on_stays(runs: list[Path]) -> None:
    with FileLock(runs[2].parent / f".{runs[2].name}.lock"):
        assert main(["clean", "--older-than", "30d", "--yes"]) == 0
    assert gone(runs) == []


REFUSED = {
    "clean": "clean needs a condition: --older-than 30d, --sweep NAME or --not-best.",
    "clean --yes": "clean needs a condition:",
    "clean --older-than 3": "--older-than 3 is not a time. Write hours, days or weeks: 12h, 30d, 8w.",
    "clean --sweep other": "--sweep other: outputs has no such sweep. Known: train-beta-1.",
    "clean elsewhere --not-best": "elsewhere is not a directory (in ",
    "clean --all": "--all is not an option of clean.",
    "clean outputs more --not-best": "outputs more: clean takes one outputs directory.",
    "ls lss": "lss is neither a directory nor something to list. Did you mean 'loss'?",
    "ls -l": "-l is not an option of ls, which has none.",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_understood_is_answered_in_one_line(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {REFUSED[words]}")
    assert said.count("\n") == 1
