"""What a stage knows of the command line that it answers, and the figure by which its runs are compared."""

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.call import Call
from dpo_lab.cli.main import main, train
from dpo_lab.stages.train import Train

CALLS: list[Call] = []
RAN: list[Train] = []


def run(stage: Train, call: Call | None = None) -> dict[str, Any]:
    """Note stage and call; return made-up figures."""
    assert call is not None
    CALLS.append(call)
    RAN.append(stage)
    return {"gold/after": 0.75, "kl": 5.5, "seconds/total": 1.0, "eval/note": "text"}


@pytest.fixture(autouse=True)
def _double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr(Train, "run", run)
    CALLS.clear()
    RAN.clear()


# ---------------------------------------------------------------- the call
def test_a_call_holds_the_command_as_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["loss=ipo", "notes='it works'", "hydra.verbose=false", "tags=[a,b]"]
    assert train(words) == 0
    monkeypatch.setattr(sys, "argv", ["/usr/bin/dpo-lab"])
    assert main(["train", *words, "force=true"]) == 0
    assert shlex.split(CALLS[0].command) == ["python", "train.py", *words]
    assert shlex.split(CALLS[1].command) == ["dpo-lab", "train", *words, "force=true"]
    assert CALLS[0].overrides == ("loss=ipo", "notes='it works'", "tags=[a,b]")
    assert CALLS[0].cwd == str(Path.cwd())


def test_a_stage_that_records_no_call_is_not_handed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_without_call(stage: Train) -> dict[str, Any]:
        RAN.append(stage)
        return {}

    monkeypatch.setattr(Train, "run", run_without_call)
    assert train([]) == 0
    assert len(RAN) == 1


def test_differences_are_the_values_that_are_not_the_stage_s_own() -> None:
    assert train(["loss=ipo", "recipe.lr=0.002", "trainer.epochs=2", "tags=[a]"]) == 0
    assert {difference["key"]: (difference["default"], difference["value"]) for difference in CALLS[0].differences} == {
        "loss._target_": ("dpo_lab.losses.dpo.DPOLoss", "dpo_lab.losses.ipo.IPOLoss"),
        "loss.reduction": ("sum", "mean"),
        "optim.lr": (0.0005, 0.002),
        "tags": ([], ["a"]),
    }


def test_values_of_another_class_are_compared_with_its_own() -> None:
    Path("pairs.jsonl").write_text("{}\n")
    assert train(["data=jsonl", "data.path=pairs.jsonl", "data.max_length=64"]) == 0
    of_data = {
        difference["key"]: difference["default"] for difference in CALLS[0].differences if difference["key"].startswith("data.")
    }
    assert of_data == {"data._target_": "dpo_lab.pipeline.on_policy.OnPolicy", "data.path": None, "data.max_length": 512}


def test_a_run_by_defaults_differs_in_nothing() -> None:
    assert train([]) == 0
    assert CALLS[0].differences == ()


def test_a_job_of_a_multirun_has_the_command_that_does_it_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(["-m", "loss=dpo,ipo", "recipe.beta=0.2", "notes='a, b'"]) == 0
    assert train(["sweep=losses", "seed=7", "-m"]) == 0
    commands = [shlex.split(call.command) for call in CALLS]
    assert commands[1] == ["python", "train.py", "loss=ipo", "recipe.beta=0.2", "notes='a, b'"]
    assert commands[3] == ["python", "train.py", "loss=ipo", "seed=7", "sweep=losses", "hydra.mode=RUN"]
    for words, stage in ((commands[number], RAN[number]) for number in (1, 3)):
        assert train(words[2:]) == 0
        assert RAN[-1].content() == stage.content()
    assert len(RAN) == len(commands) + 2


def test_a_job_of_a_multirun_is_labelled_by_what_is_swept_and_a_single_run_is_not() -> None:
    assert train(["-m", "loss=dpo,ipo", "recipe.beta=0.2", "seed=0,1"]) == 0
    assert train(["seed=1"]) == 0
    assert [call.label for call in CALLS] == ["loss_dpo-seed0", "loss_dpo-seed1", "loss_ipo-seed0", "loss_ipo-seed1", ""]


def test_jobs_of_a_multirun_belong_to_the_group_of_their_sweep() -> None:
    assert train(["-m", "seed=0,1"]) == 0
    assert train(["-m", "seed=2,3", "group=mine"]) == 0
    assert train(["seed=4"]) == 0
    directories = [path.name for path in Path("outputs/sweep").iterdir()]
    assert [stage.group for stage in RAN[2:]] == ["mine", "mine", None]
    assert {stage.group for stage in RAN[:2]} <= set(directories)
    assert len({stage.group for stage in RAN[:2]}) == 1


# ---------------------------------------------------------------- the figure by which runs are compared
def test_the_table_of_a_multirun_shows_the_optimized_metric(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(["-m", "seed=0,1"]) == 0
    assert train(["-m", "seed=0,1", "optimized_metric=kl"]) == 0
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines() if "finished  " in line]
    assert [line[2] for line in lines] == [".750"] * 2 + ["5.500"] * 2
    assert [line.split()[2] for line in said.splitlines() if line.startswith("  job ")] == ["gold/after", "kl"]


def test_a_figure_that_turns_out_to_be_missing_fails_the_job_and_keeps_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(["optimized_metric=win_rate"]) == 1
    assert capsys.readouterr().err == (
        "error: optimized_metric=win_rate: the run is finished and kept, but its summary has no such figure: "
        "its pairs lack the labels that it needs, or none are held out. It has: gold/after, kl, eval/note.\n"
    )


def test_a_sweeper_gets_the_optimized_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra._internal.core_plugins import basic_sweeper

    values: list[Any] = []
    sweep = basic_sweeper.BasicSweeper.sweep
    monkeypatch.setattr(
        basic_sweeper.BasicSweeper,
        "sweep",
        lambda self, arguments: values.extend(job.return_value for batch in sweep(self, arguments) for job in batch),
    )
    assert train(["-m", "seed=0,1", "optimized_metric=kl"]) == 0
    assert values == [5.5, 5.5]
