"""The jobs of a sweep on disk: what became of each, and names that no shell and no file system minds."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_lab.comparison.jobs import JobRecord, SweepPlan, job_name, jobs_in, plan_in, swept_values


def sweep_in(tmp_path: Path, *states: str) -> Path:
    """Write a sweep of three jobs of which the first ones have a record."""
    jobs = tuple((f"seed={seed}", "loss=dpo") for seed in range(3))
    SweepPlan(stage="train", command="python train.py -m seed=0,1,2 loss=dpo", jobs=jobs).write(tmp_path)
    for number, state in enumerate(states, start=1):
        record = JobRecord.begun(number, jobs[number - 1], "2026-01-01")
        JobRecord(**{**record.__dict__, "state": state, "figure": ("gold/after", 0.5)}).write(tmp_path)
    return tmp_path


def test_jobs_are_read_back_and_one_that_never_began_is_there_too(tmp_path: Path) -> None:
    jobs = jobs_in(sweep_in(tmp_path, "finished", "failed"))
    assert [job.state for job in jobs] == ["finished", "failed", "not started"]
    assert [job.overrides for job in jobs] == [(f"seed={seed}", "loss=dpo") for seed in range(3)]
    assert jobs[0].figure == ("gold/after", 0.5)
    plan = plan_in(tmp_path)
    assert plan is not None
    assert plan.command == "python train.py -m seed=0,1,2 loss=dpo"


def test_a_job_whose_process_is_gone_was_killed_and_one_of_a_living_process_runs(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for number, pid in ((1, gone.pid), (2, os.getppid())):
        record = JobRecord.begun(number, ["seed=0"], "")
        JobRecord(**{**record.__dict__, "pid": pid}).write(tmp_path)
    assert [job.state for job in jobs_in(tmp_path)] == ["killed", "running"]


def test_a_job_of_this_process_that_nobody_ended_was_of_an_earlier_process_with_its_number(tmp_path: Path) -> None:
    JobRecord.begun(1, ["seed=0"], "").write(tmp_path)
    assert [job.state for job in jobs_in(tmp_path)] == ["killed"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"number": 1}', "null"])
def test_a_broken_record_is_that_of_a_job_that_never_began(tmp_path: Path, text: str) -> None:
    sweep_in(tmp_path, "finished")
    (tmp_path / "jobs" / "001.json").write_text(text)
    assert [job.state for job in jobs_in(tmp_path)] == ["not started"] * 3


def test_only_what_differs_is_swept_and_the_seed_stands_last() -> None:
    jobs = [[f"seed={seed}", f"loss={loss}", "debug=fast"] for seed in (0, 1) for loss in ("dpo", "ipo")]
    assert swept_values(jobs)[1] == {"loss": "ipo", "seed": "0"}
    assert list(swept_values(jobs)[1]) == ["loss", "seed"]


HOSTILE = ["$(reboot)", "a b;c", "../../x", "'\"`", "-rf", "*", "ü<script>", "x" * 300, "a\nb", ""]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_name_is_one_plain_word_for_a_shell_whatever_is_swept(value: str) -> None:
    name = job_name(7, {"data.path": value, "seed": "0"})
    assert shlex.quote(name) == name
    assert re.fullmatch(r"7-[A-Za-z0-9_.+-]{1,58}", name)
    assert "/" not in name


def test_names_cannot_collide_however_alike_the_values_are() -> None:
    names = {job_name(number, {"notes": "x" * 100 + str(number)}) for number in range(1, 101)}
    assert len(names) == 100
