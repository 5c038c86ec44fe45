"""`rerun=DIR` repeats a finished run from its directory. The training is a double here."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.artifacts import MANIFEST, Plan, file_digest
from dpo_lab.call import Call
from dpo_lab.cli.main import main, train
from dpo_lab.cli.rerun import short
from dpo_lab.environment import environment
from dpo_lab.manifests import DIGEST, sealed
from dpo_lab.stages.train import Train

FIGURES: dict[str, Any] = {}
ENVIRONMENT: dict[str, Any] = {}
CALLS: list[Call] = []
RAN: list[Train] = []
RECORDED: dict[str, Any] = {}
"""What the directory of the run says of its configuration beside the truth."""


def run(stage: Train, call: Call | None = None) -> dict[str, Any]:
    """Write what a run leaves in its directory, its figures made up; like the real one, return a finished run."""
    assert call is not None
    CALLS.append(call)

    def produce(directory: Path) -> dict[str, Any]:
        RAN.append(stage)
        summary = {"gold/after": 0.75, "kl": 5.5, "seconds/total": float(len(RAN)), "eval/note": "text", **FIGURES}
        files = {"summary": summary, "call": recorded_call(call), "run": {"environment": {**environment(), **ENVIRONMENT}}}
        for name, content in files.items():
            (directory / f"{name}.json").write_text(json.dumps(content))
        return summary

    made = Plan(stage.outputs, "train", "run", stage.content()).make(produce, force=stage.force)
    return dict(json.loads((made.path / "summary.json").read_text()))


def recorded_call(call: Call) -> dict[str, Any]:
    record = call.to_record()
    return {**record, "config": {**record["config"], **RECORDED}}


@pytest.fixture(autouse=True)
def _double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    monkeypatch.chdir(tmp_path / "first")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr(Train, "run", run)
    for each in (FIGURES, ENVIRONMENT, CALLS, RAN, RECORDED):
        each.clear()


def recorded(*words: str) -> Path:
    """Run the stage; return the run's directory."""
    before = set(Path("outputs/train").glob("*/"))
    assert train(list(words)) == 0
    (directory,) = set(Path("outputs/train").glob("*/")) - before
    return directory.absolute()


# ---------------------------------------------------------------- the same again
def test_a_run_is_repeated_from_its_directory_and_its_figures_are_equal(capsys: pytest.CaptureFixture[str]) -> None:
    directory = recorded("loss=ipo", "loss.beta=0.3", "seed=5", "notes='a note'")
    assert train([f"rerun={directory}"]) == 0
    assert capsys.readouterr().out == f"\nrerun of {directory}\nall 2 figures equal\n"
    one, other = RAN
    assert other.content() == one.content()
    assert (other.notes, other.outputs) == ("a note", Path("outputs/rerun").absolute() / directory.name)
    assert [path.name for path in (other.outputs / "train").glob("*/")] == [directory.name]


def test_relative_paths_are_those_of_the_first_call_and_outputs_are_the_caller_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("pairs.jsonl").write_text("{}\n")
    directory = recorded("data=jsonl", "data.path=pairs.jsonl")
    monkeypatch.chdir(tmp_path / "second")
    assert train([f"rerun=../first/outputs/train/{directory.name}"]) == 0
    assert RAN[1].outputs == tmp_path / "second/outputs/rerun" / directory.name
    assert train([f"rerun={directory}", "paths.outputs=mine"]) == 0
    assert RAN[2].outputs == tmp_path / "second/mine/rerun" / directory.name
    assert Path.cwd() == tmp_path / "second"
    assert capsys.readouterr().out.count("all 2 figures equal") == 2


def test_the_second_rerun_finds_the_first_and_force_starts_over() -> None:
    directory = recorded("force=true")  # the run's own force is not a reason to repeat its repetition
    assert train([f"rerun={directory}"]) == train([f"rerun={directory}"]) == 0
    assert len(RAN) == 2
    assert train([f"rerun={directory}", "force=true"]) == 0
    assert len(RAN) == 3


def test_figures_go_to_the_loggers_that_the_rerun_names() -> None:
    directory = recorded("logger=wandb")
    assert train([f"rerun={directory}"]) == 0
    assert train([f"rerun={directory}", "logger=wandb", "logger.wandb.project=mine", "force=true"]) == 0
    assert [sorted(stage.logger) for stage in RAN] == [["local", "wandb"], ["local"], ["local", "wandb"]]
    assert RAN[2].logger["wandb"].project == "mine"  # type: ignore[attr-defined]


def test_a_rerun_can_be_repeated_itself() -> None:
    directory = recorded()
    assert train([f"rerun={directory}"]) == 0
    (again,) = (RAN[1].outputs / "train").glob("*/")
    assert CALLS[1].command == f"python train.py rerun={directory}"
    assert train([f"rerun={again}"]) == 0


# ---------------------------------------------------------------- not the same
def test_figures_that_differ_are_shown_with_the_likely_reason(capsys: pytest.CaptureFixture[str]) -> None:
    packages = environment()["packages"]
    ENVIRONMENT.update(threads=64, packages={**packages, "torch": "1.0"}, cpu="i486", started="earlier", cwd="/elsewhere")
    directory = recorded()
    ENVIRONMENT.clear()
    FIGURES.update({"kl": 5.25, "win_rate": 0.9})
    assert train([f"rerun={directory}"]) == 1
    shown = capsys.readouterr()
    assert [line.split() for line in shown.out.splitlines()[2:]] == [
        ["figure", "recorded", "now", "difference"],
        ["kl", "5.5", "5.25", "-0.25"],
        ["win_rate", "-", "0.9", "-"],
    ]
    assert shown.err.startswith("error: 2 of 3 figures differ. The likely reason is the environment: cpu i486 -> ")
    assert f"packages.torch 1.0 -> {packages['torch']}" in shown.err
    assert f"threads 64 -> {environment()['threads']}" in shown.err
    assert "started" not in shown.err
    assert "cwd" not in shown.err


def test_the_reason_is_looked_for_in_the_environment_of_the_rerun_not_of_who_looks_at_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    directory = recorded()
    ENVIRONMENT.update(cpu="i486")
    FIGURES.update({"kl": 5.25})
    assert train([f"rerun={directory}"]) == 1
    ENVIRONMENT.clear()
    assert train([f"rerun={directory}"]) == 1
    assert len(RAN) == 2
    assert capsys.readouterr().err.count(f"environment: cpu {short(environment()['cpu'])} -> i486.") == 2


def test_data_that_changed_since_is_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    Path("pairs.jsonl").write_text("{}\n")
    directory = recorded("data=jsonl", "data.path=pairs.jsonl")
    Path("pairs.jsonl").write_text("{}\n{}\n")
    FIGURES.update({"kl": 5.25})
    assert train([f"rerun={directory}"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(
        "error: 1 of 2 figures differ. It is another run by now, whose files or classes were changed: data.sha256 "
    )


# ---------------------------------------------------------------- what cannot be repeated
def test_a_directory_that_is_not_there_is_said_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    directory = recorded()
    assert train([f"rerun={directory}x"]) == 2
    assert capsys.readouterr().err == (
        f"error: rerun={directory}x: this directory does not exist. Did you mean 'rerun={directory}'?\n"
    )


def test_a_run_that_is_not_finished_is_said_with_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    directory = recorded("seed=3")
    (directory / "manifest.json").unlink()
    assert train([f"rerun={directory}"]) == 2
    assert capsys.readouterr().err.endswith("has lost a file. Finish it by its own command: python train.py seed=3\n")


def test_other_directories_are_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train([f"rerun={tmp_path}"]) == 2
    assert capsys.readouterr().err == f"error: rerun={tmp_path}: this is not a run of train.\n"
    model = Plan(tmp_path, "policy", "mine", {}).make(lambda directory: {})
    assert train([f"rerun={model.path}"]) == 2
    assert "this is a policy, not a run of train" in capsys.readouterr().err
    foreign = Plan(tmp_path, "train", "mine", {}).make(lambda directory: {})
    assert train([f"rerun={foreign.path}"]) == 2
    assert "does not record how it was called" in capsys.readouterr().err
    assert RAN == []


def test_a_configuration_that_this_version_does_not_know_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    directory = recorded()
    call = json.loads((directory / "call.json").read_text())
    call["config"]["loss"]["bet"] = call["config"]["loss"].pop("beta")
    call["notes"] = call.pop("cwd")
    call["cwd"] = call.pop("notes")
    text = json.dumps(call)
    (directory / "call.json").write_text(text)
    manifest = json.loads((directory / MANIFEST).read_text())
    manifest.pop(DIGEST)
    manifest["files"]["call.json"] = {"bytes": len(text), "sha256": file_digest(directory / "call.json")}
    (directory / MANIFEST).write_text(json.dumps(sealed(manifest)))
    assert train([f"rerun={directory}"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(
        f"error: {directory} cannot be repeated by this version: loss.bet is not known. Did you mean 'loss.beta'?"
    )


def test_a_run_that_another_version_recorded_is_answered_with_its_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr("dpo_lab.artifacts.SCHEMA", 2)
        directory = recorded("seed=7")
    capsys.readouterr()
    assert train([f"rerun={directory}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"rerun={directory}: this run was recorded by another version (schema 2, this one has 3)" in line
    assert line.endswith("Run its command anew: python train.py seed=7")
    assert len(RAN) == 1


def test_a_run_that_is_damaged_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    directory = recorded("seed=3")
    text = (directory / "call.json").read_text()
    (directory / "call.json").write_text(text.replace("seed=3", "seed=4", 1))
    assert train([f"rerun={directory}"]) == 2
    assert capsys.readouterr().err == (
        f"error: rerun={directory}: this run is damaged (call.json does not match its sha256). Repeat its own command, which "
        "makes it again where it stands.\n"
    )
    assert len(RAN) == 1


@pytest.mark.parametrize("beside", [["seed=1"], ["-m"], ["--cfg", "job"], ["loss=ipo", "logger=wandb"]])
def test_what_would_make_it_another_run_is_refused(beside: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert train(["rerun=somewhere", *beside]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {' '.join(word for word in beside if word != 'logger=wandb')} cannot stand beside rerun: ")
    assert "only paths, logger, force, tags, notes, group, optimized_metric and trust go with rerun" in shown


def test_rerun_needs_a_directory_and_the_stage_train(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(["rerun="]) == main(["pretrain", "rerun=x"]) == 2
    shown = capsys.readouterr().err.splitlines()
    assert shown[0].startswith("error: rerun needs the directory of a run, for instance rerun=outputs/train/")
    assert shown[1] == "error: rerun=x: only runs of train can be repeated. Write dpo-lab train rerun=x"


def test_the_help_of_train_names_rerun(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == main(["pretrain", "--help"]) == 0
    assert capsys.readouterr().out.count("repeat a run     rerun=outputs/train/NAME") == 1
