"""Several runs by one command: which jobs run, where a sweep is kept, and what a failed job does to the others."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.cli.arguments import CommandLine, read
from dpo_lab.cli.main import main, sweep_directory
from dpo_lab.cli.session import Session
from dpo_lab.comparison.jobs import JobRecord, jobs_in
from dpo_lab.components import RunError
from dpo_lab.data.base import GivenPairs
from dpo_lab.data.sources import FilePairs
from dpo_lab.stages.train import Train

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # the program sets it too; this puts it back afterwards
    RAN.clear()
    monkeypatch.setattr(Train, "run", lambda stage: RAN.append(stage))


def test_a_sweep_runs_every_combination_and_has_one_directory() -> None:
    assert main(["train", "-m", "loss=dpo,ipo", "seed=0,1"]) == 0
    assert [(type(stage.loss).__name__, stage.seed) for stage in RAN] == [
        ("DPOLoss", 0),
        ("DPOLoss", 1),
        ("IPOLoss", 0),
        ("IPOLoss", 1),
    ]
    (directory,) = Path("outputs/sweep").iterdir()
    assert directory.name.startswith("train-loss-seed-")
    names = {"multirun.yaml", "jobs.json", "jobs", "summary.csv", "summary.json"}
    assert {path.name for path in directory.iterdir()} == names  # no run has a directory here, so none is best
    assert {path.name for path in (directory / "jobs").iterdir()} == {
        f"00{n}.{end}" for n in range(1, 5) for end in ("json", "log")
    }


def named(*words: str) -> str:
    """Return the name of the directory that a sweep over seeds has."""
    return Path(sweep_directory(read("train", ["-m", "seed=0,1", *words]), ["seed"], "outputs")).name


def test_where_and_how_a_sweep_is_shown_is_no_part_of_its_name() -> None:
    assert named() == named("paths.outputs=other", "force=true")


def test_callbacks_may_change_what_is_trained_and_so_name_another_sweep() -> None:
    assert named() != named("callbacks=early_stopping")


def test_a_kept_sweep_needs_no_m() -> None:
    assert main(["train", "sweep=losses", "seed=0"]) == 0
    assert [type(stage.loss).__name__ for stage in RAN] == ["DPOLoss", "IPOLoss"]


def test_jobs_go_on_after_a_failure_and_a_table_says_which_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def second_fails(stage: Train) -> None:
        if stage.seed == 1:
            raise RuntimeError("the second one")

    monkeypatch.setattr(Train, "run", second_fails)
    assert main(["train", "-m", "seed=0,1,2"]) == 1
    shown = capsys.readouterr()
    said = shown.out.splitlines()
    assert "3 jobs, 2 finished, 1 failed" in said
    at = said.index("runs")
    assert [line.split()[:3] for line in said[at + 2 : at + 5]] == [
        ["1", "0", "finished"],
        ["2", "1", "failed"],
        ["3", "2", "finished"],
    ]
    assert said[at + 5] == "failed: 2-seed1: RuntimeError: the second one"
    log = Path(said[at + 6].removeprefix("  log ")).read_text()
    assert log.startswith("dpo-lab train seed=1\n")
    assert "Traceback (most recent call last)" in log
    assert log.endswith("RuntimeError: the second one\n")
    assert shown.err.splitlines()[-1] == (
        "error: 1 of 3 jobs did not finish; the lines above say why. The same command runs what is missing."
    )


def test_a_job_that_is_stopped_and_those_behind_it_are_told_of_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(stage: Train) -> None:
        if stage.seed == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Train, "run", stopped)
    assert main(["train", "-m", "seed=0,1,2"]) == 75
    assert "3 jobs, 1 finished, 0 failed, 1 stopped, 1 not started" in capsys.readouterr().out
    (sweep,) = Path("outputs/sweep").iterdir()
    assert [job.state for job in jobs_in(sweep)] == ["finished", "stopped", "not started"]
    monkeypatch.setattr(Train, "run", lambda stage: None)
    assert main(["train", "-m", "seed=0,1,2"]) == 0  # the same command
    assert [job.state for job in jobs_in(sweep)] == ["finished"] * 3


def test_a_job_that_fails_in_a_process_of_a_launcher_is_told_of_in_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such a process has a session of its own: the caller knows what the jobs left on disk, and what Hydra carries home."""

    def elsewhere(config: Any, line: CommandLine, session: Session) -> None:
        number = int(config.hydra.job.num) + 1
        begun = JobRecord.begun(number, [f"seed={config.seed}"], "")
        replace(begun, state="failed" if number == 2 else "finished", message="RunError: no").write(Path(config.hydra.sweep.dir))
        if number == 2:
            raise RunError("no")

    monkeypatch.setattr("dpo_lab.cli.main.run_job", elsewhere)
    assert main(["train", "-m", "seed=0,1,2"]) == 1
    shown = capsys.readouterr()
    assert "3 jobs, 2 finished, 1 failed" in shown.out
    assert "failed: 2-seed1: RunError: no" in shown.out
    assert "error: no\n" in shown.err
    assert "cannot be composed" not in shown.err


REFUSED = {  # what stands behind -m: the whole message, or its beginning
    "recipe.beta=0.1,-1": (
        "job 2 of 2 (recipe.beta=-1) cannot run: recipe.beta=-1: Input should be greater than 0 (used as loss.beta). "
        "No job was started.\n"
    ),
    "seed=0,1 recipe.beta=0.1,-1": (
        "job 2 of 4 (seed=0 recipe.beta=-1) cannot run: recipe.beta=-1: Input should be greater than 0 (used as loss.beta). "
        "Nor can job 4. No job was started.\n"
    ),
    "data=films,jsonl": "job 2 of 2 (data=jsonl) cannot run: data.path has no value. Add data.path=... No job was started.",
    "quant=none,4bit": "job 2 of 2 (quant=4bit) cannot run: ",
    "seed=0,1,x": "job 3 of 3 (seed=x) cannot run: seed=x: Input should be a whole number. No job was started.",
    "loss=dpo,simpo recipe.beta=2": "job 2 of 2 (loss=simpo recipe.beta=2) cannot run: `recipe.beta=2` has no effect",
    "loss=dpo,ipo +loss.label_smoothin=0.1": "job 1 of 2 (loss=dpo +loss.label_smoothin=0.1) cannot run: ",
    "sweep=losses seed=x": "job 1 of 2 (loss=dpo seed=x sweep=losses) cannot run: seed=x: Input should be a whole number.",
}


@pytest.mark.parametrize("command", REFUSED)
def test_a_job_that_cannot_run_is_found_before_the_first_one_starts(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", *command.split()]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: {REFUSED[command]}")
    assert (shown.err.count("\n"), shown.out) == (1, "")
    assert RAN == []
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "words", ["data=jsonl data.path", "data=on_policy model=local model.path=m ranker=length prompts=jsonl prompts.path"]
)
def test_a_file_that_only_a_later_job_reads_is_looked_for_before_the_first_one(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"Why {number}?", "chosen": "Because.", "rejected": "No."} for number in range(5)]
    Path("m").mkdir()
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 300}
    Path("m/config.json").write_text(json.dumps({"model_type": "llama", **shape}))  # by which the space on the disk is planned
    for name in ("here.jsonl", "other.jsonl"):
        Path(name).write_text("\n".join(map(json.dumps, rows)))
    for name, says in (("gone.jsonl", "gone.jsonl does not exist"), ("other.jsonl", "")):
        code = main(["train", "-m", *f"{words}=here.jsonl,{name}".split()])
        said = capsys.readouterr().err
        assert (code, len(RAN)) == ((2, 0) if says else (0, 2))
        assert f"{words}={name}) cannot run: {says}" in said if says else said == ""
        RAN.clear()


def test_outputs_of_a_sweep_may_have_a_quote_in_their_name() -> None:
    assert main(["train", "-m", "seed=0,1", 'paths.outputs="it\'s (mine)"']) == 0
    assert [path.name for path in Path().iterdir()] == ["it's (mine)"]


def test_a_sweep_of_which_no_job_starts_leaves_what_was_there() -> None:
    Path("mine").mkdir()
    assert main(["train", "-m", "lss=dpo,ipo", "paths.outputs=mine"]) == 2
    assert list(Path().rglob("*")) == [Path("mine")]


def test_labels_that_a_later_job_reads_are_looked_for_before_the_first_one_and_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
    rows = [{**row, "prompt": f"Why {number}?"} for number in range(5)]
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    loads: list[str] = []
    load = FilePairs.load

    def counted(data: FilePairs, rounds: int = 1) -> list[GivenPairs]:
        loads.append(str(data.path))
        return load(data, rounds)

    monkeypatch.setattr(FilePairs, "load", counted)
    words = ["train", "-m", "data=jsonl", "data.path=pairs.jsonl"]
    assert main([*words, "loss=dpo,odpo"]) == 2
    said = capsys.readouterr().err
    assert "job 2 of 2 (data=jsonl data.path=pairs.jsonl loss=odpo) cannot run: this loss reads score_chosen" in said
    assert (RAN, loads) == ([], ["pairs.jsonl"])
    scored = [{**row, "score_chosen": 2.0, "score_rejected": 1.0} for row in rows]
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, scored)))
    assert main([*words, "loss=odpo", "seed=0,1,2"]) == 0
    assert (len(RAN), loads) == (3, ["pairs.jsonl"] * 2)


FAULTY = {  # what the second job asks of the data: what reading finds
    "data.held_out=1,5": "(data.held_out=5) cannot run: data.held_out=5 ",
    "data.columns.prompt=prompt,frage": "cannot run: data.columns.prompt=frage: pairs.jsonl has no such column",
    "data.path=pairs.jsonl,broken.jsonl": "cannot run: broken.jsonl",
    "data.split=null,test": "data.split=test: pairs.jsonl is not a directory",
}


@pytest.mark.parametrize("command", FAULTY)
def test_what_reading_finds_for_a_later_job_is_told_before_the_first_one_and_read_once(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"Why {number}?", "chosen": "Because.", "rejected": "No."} for number in range(5)]
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("broken.jsonl").write_text('{"prompt": ')
    loads: list[FilePairs] = []
    load = FilePairs.load

    def counted(data: FilePairs, rounds: int = 1) -> list[GivenPairs]:
        loads.append(data)
        return load(data, rounds)

    monkeypatch.setattr(FilePairs, "load", counted)
    path = [] if command.startswith("data.path") else ["data.path=pairs.jsonl"]
    assert main(["train", "-m", "data=jsonl", *path, command, "seed=0,1", "recipe.max_length=64,128"]) == 2
    said = capsys.readouterr().err
    assert FAULTY[command].removeprefix("(data.held_out=5) ") in said
    assert "No job was started." in said
    assert (RAN, len(loads)) == ([], 2)


def test_a_sweep_of_finished_runs_reads_no_data_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": f"Why {number}?", "chosen": "Because.", "rejected": "No."} for number in range(5)]
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setattr("dpo_lab.artifacts.Plan.finished", lambda plan: plan)
    monkeypatch.setattr(FilePairs, "load", lambda data, rounds: pytest.fail("read"))
    assert main(["train", "-m", "data=jsonl", "data.path=pairs.jsonl", "seed=0,1"]) == 0
    assert len(RAN) == 2
