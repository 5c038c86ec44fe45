"""The command line: messages, exit codes, what is imported, and how a run or a sweep ends."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dpo_lab import __version__
from dpo_lab.cli.conf import options, stages
from dpo_lab.cli.main import main
from dpo_lab.data.problems import DataError
from dpo_lab.stages.train import Train

ROOT = Path(__file__).resolve().parents[2]
RAN: list[Train] = []


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # the program sets it too; this puts it back afterwards
    RAN.clear()

    def run(stage: Train) -> dict[str, float]:
        RAN.append(stage)
        return {}

    monkeypatch.setattr(Train, "run", run)


def run_with(monkeypatch: pytest.MonkeyPatch, does: Any) -> None:
    """Let the stage `train` do this, given the stage."""
    monkeypatch.setattr(Train, "run", does)


def child(code: str) -> tuple[str, float]:
    """Return what Python code prints, and the CPU-seconds of the process that ran it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# ---------------------------------------------------------------- what is imported, and what it costs
HEAVY = "sorted({'hydra', 'omegaconf', 'pydantic', 'torch', 'dpo_lab.components', 'dpo_lab.cli.build'} & set(sys.modules))"


@pytest.mark.parametrize(
    ("words", "loaded", "seconds"),
    [
        (["train", "--help"], [], 0.3),
        (["train", "--cfg", "job"], ["hydra", "omegaconf"], 1.5),
        (["train", "optim.lrr=1"], ["hydra", "omegaconf"], 1.5),
        (["train", "loss=dpp"], ["hydra", "omegaconf"], 1.5),
    ],
)
def test_help_a_look_and_a_typo_import_no_component_and_stay_cheap(words: list[str], loaded: list[str], seconds: float) -> None:
    shown, cpu = child(f"import sys; from dpo_lab.cli.main import main; main({words}); print(); print({HEAVY})")
    assert shown.splitlines()[-1] == str(loaded)
    assert cpu < seconds  # CPU time of the child, not the clock


def test_train_py_works_without_installing() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "train.py"), "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: dpo-lab train [-m] [group=option ...] [key=value ...]")


# ---------------------------------------------------------------- help and version
def test_help_names_the_stages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "train        Rounds of getting pairs, DPO and evaluation, then the report" in shown


def test_no_words_are_answered_by_the_help_and_exit_code_2() -> None:
    assert main([]) == 2


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == main(["train", "--version"]) == 0
    assert capsys.readouterr().out == f"dpo-lab {__version__}\n" * 2


def test_the_help_of_a_stage_shows_groups_with_options_and_what_they_decide(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-h"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = lines.index("groups to change first")
    named = [line.split()[0] for line in lines[first + 1 :] if line.startswith("  ") and not line.startswith("   ")]
    assert named[:4] == ["model", "quant", "data", "ranker"]  # options that need separate lines stand further in
    assert max(map(len, lines)) <= 120
    assert any(line.split()[0] == "optim" and "the optimizer" in line for line in lines if line)
    loss = next(at for at, line in enumerate(lines) if line.startswith("  loss "))
    assert "what training minimises" in lines[loss]  # too many options for one line: they stand below
    shown = " ".join(lines[loss + 1 : loss + 8]).split()
    assert shown[: len(options("loss"))] == options("loss")


# ---------------------------------------------------------------- messages
# command: the whole message after "error: "
LOSSES = " ".join(options("loss"))
MESSAGES = {
    "trian": (
        f"'trian' is not a stage. Did you mean 'train'? Valid: {', '.join(stages())}, "
        "verify, compare, ls, clean, completion. Example: dpo-lab train model=tiny"
    ),
    "train films": "'films' sets nothing. Write group=option or key=value, for instance data=films",
    "train --experiment=snorkel_mistral": (
        "--experiment=snorkel_mistral: settings have no dashes. Write experiment=snorkel_mistral"
    ),
    "train --experiment snorkel_mistral": "--experiment: settings have no dashes. Write experiment=snorkel_mistral",
    "train --cfg jib": "--cfg jib: it shows job, hydra, all.",
    "train --cfg": "--cfg needs a value, for instance --cfg job or --config-dir my_conf.",
    "train -m --cfg job seed=0,1": "-m and --cfg do different things. Give one of them.",
    "train -m": (
        "-m runs every value of a list, but no key has a list. Leave out -m, or give a key a list, for instance seed=0,1,2"
    ),
    "train -m loss=dpo": (
        "-m runs every value of a list, but no key has a list. Leave out -m, or give a key a list, for instance loss=dpo,aot"
    ),
    "train loss=dpo,ipo": "loss=dpo,ipo names several options. Add -m to run each of them.",
    "train seed=0,1": ("seed=0,1 names several values. Add -m to run each of them."),
    "train logger=local,wandb": (
        "logger=local,wandb names several options. Add -m to run each of them. To merge them: logger=[local,wandb]"
    ),
    "train loss=[dpo,ipo]": "loss=[dpo,ipo]: loss takes one option. To run each of them: -m loss=dpo,ipo",
    "train loss=null": f"loss=null: loss needs one of its options: {LOSSES}.",
    "train seed=1 seed=2": "seed is set twice: seed=1 and seed=2; leave one out. To run each of them: -m seed=1,2",
    "train outputs=/x": "outputs=/x: everything that is written moves with paths.outputs. Write paths.outputs=/x",
    "train optim.lrr=1": (
        "optim.lrr is not known. Did you mean 'optim.lr'? "
        "Valid in optim: betas, clip, eps, final, lr, schedule, warmup, warmup_from, weight_decay."
    ),
    "train data.sampl.x=1": (
        "data.sampl.x is not known. Valid in data: max_length, order, pairing, prompts, ranker, sampler, truncation."
    ),
    "train data.sampler.top_p=1": (
        "data.sampler.top_p cannot be set there: data.sampler is taken from sampler. Write sampler.top_p=..."
    ),
    "train optim.lr.x=1": "optim.lr.x does not exist: optim.lr has no keys below it. Write optim.lr=...",
    "train loss=dpp": "loss=dpp: this option does not exist. Did you mean 'dpop'? All options: dpo-lab ls loss",
    "train experiment=snorkel": (
        "experiment=snorkel: this option does not exist. Did you mean 'snorkel_mistral'? "
        "Valid: mistral_pairrm, snorkel_mistral, sppo."
    ),
    "train -m loss=dpo,ipp": "loss=ipp: this option does not exist. Did you mean 'ipo'? All options: dpo-lab ls loss",
    "train +loss=ipo": "+loss: the group exists already. Write loss=ipo without the plus sign.",
    "train +seed=1": "+seed: the key exists already. Write seed=1 without the plus sign.",
    "train ~foo": "~foo: this key does not exist, so it cannot be removed. --cfg job shows those that exist.",
    "train data=jsonl data.path=a=b.jsonl": (
        "data.path=a=b.jsonl cannot be read: the value holds a character with a special meaning. "
        "Quote it: \"data.path='a=b.jsonl'\""
    ),
    "train --config-dir /nowhere": "--config-dir /nowhere: this directory does not exist. Correct the path.",
    "train recipe.beta=-1": "recipe.beta=-1: Input should be greater than 0 (used as loss.beta).",
    "train data=jsonl": "data.path has no value. Add data.path=...",
    "pretrain loss=ipo": (
        "`loss=ipo` has no effect: this stage takes only model, data, outputs, seed, force, checkpoint. Leave it out."
    ),
}


@pytest.mark.parametrize("command", MESSAGES)
def test_a_mistake_is_answered_in_one_line_with_exit_code_2(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == 2
    shown = capsys.readouterr()
    assert shown.err == f"error: {MESSAGES[command]}\n"
    assert shown.out == ""
    assert list(Path().iterdir()) == []  # nothing is written


@pytest.mark.parametrize("command", ["train lss=dpo", "train -m lss=dpo,ipo"])
def test_an_unknown_group_is_answered_with_the_nearest_one(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == 2
    shown = capsys.readouterr().err
    assert shown == "error: lss is neither a group nor a key. Did you mean 'loss'? All keys: dpo-lab train --help\n"
    assert list(Path().iterdir()) == []


def test_an_unknown_option_names_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--multirn", "seed=0,1"]) == 2
    assert capsys.readouterr().err.startswith("error: --multirn is not an option. Did you mean '--multirun'? Valid: --cfg, ")


def test_options_of_a_second_directory_count(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine/loss").mkdir(parents=True)
    Path("mine/loss/own.yaml").write_text("_target_: dpo_lab.losses.dpo.DPOLoss\nbeta: 0.7\nlabel_smoothing: 0.0\n")
    assert main(["train", "--config-dir", "mine", "loss=own"]) == 0
    assert main(["train", "-m", "--config-dir", "mine", "loss=own,dpo"]) == 0
    assert [stage.loss.beta for stage in RAN] == [0.7, 0.7, 1.0]
    assert main(["train", "--config-dir", "mine", "loss=owm"]) == 2
    valid = " ".join(sorted([*options("loss"), "own"]))
    assert capsys.readouterr().err == f"error: loss=owm: this option does not exist. Did you mean 'own'? Valid: {valid}.\n"


# ---------------------------------------------------------------- how a run ends
def test_a_run_gets_the_stage_and_hydra_writes_nothing() -> None:
    assert main(["train", "loss=ipo", "seed=3", "data.path='my file (1).jsonl'", "data=jsonl"]) == 0
    assert [(stage.seed, type(stage.loss).__name__, str(stage.data.path)) for stage in RAN] == [  # type: ignore[attr-defined]
        (3, "IPOLoss", "my file (1).jsonl")
    ]
    assert list(Path().iterdir()) == []


def test_bad_data_is_one_message_and_exit_code_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def bad(stage: Train) -> None:
        raise DataError("pairs.jsonl: this file does not exist. Check data.path.", code="no_file")

    run_with(monkeypatch, bad)
    assert main(["train"]) == 1
    assert capsys.readouterr().err == "error: pairs.jsonl: this file does not exist. Check data.path.\n"


def test_a_directory_that_is_no_pairrm_is_refused_by_the_stage_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert main(["train", "data=on_policy", "prompts=films", f"ranker.path={tmp_path}", f"paths.outputs={tmp_path}"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: ranker.path={tmp_path} holds no PairRM: config.json is of 'llama'.")
    assert shown.count("\n") == 1


def test_outputs_that_are_a_file_are_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_with(monkeypatch, lambda stage: (stage.outputs / "train").mkdir(parents=True))
    Path("taken").write_text("")
    assert main(["train", "paths.outputs=taken"]) == 1
    assert capsys.readouterr().err == (
        "error: taken/train cannot be written (not a directory: a file stands where a directory is needed). "
        "Choose another place with paths.outputs=DIR\n"
    )
    assert main(["train", "-m", "seed=0,1", "paths.outputs=taken"]) == 1  # here it is Hydra that cannot write
    assert "cannot be written (not a directory" in capsys.readouterr().err


def test_outputs_without_permission_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def denied(stage: Train) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(stage.outputs / "train"))

    run_with(monkeypatch, denied)
    assert main(["train"]) == 1
    assert capsys.readouterr().err.startswith("error: outputs/train cannot be written (permission denied). Choose another place")


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("I/O error: No space left on device (os error 28)")],
)
def test_a_full_disk_says_what_is_kept(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(stage: Train) -> None:
        raise error

    run_with(monkeypatch, full)
    assert main(["train", "paths.outputs=there"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: the disk of there is full. Kept there: nothing yet; free some space and run the same")
    assert shown.count("\n") == 1


def test_another_error_shows_its_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run_with(monkeypatch, lambda stage: 1 / 0)
    assert main(["train"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert shown.endswith("ZeroDivisionError: division by zero\n")
    assert "Error executing job" not in shown
