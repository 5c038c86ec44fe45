"""What a group, a path or a value is given by mistake: one line, whose remedy is accepted when it is typed."""

import re
import shlex
from pathlib import Path

import pytest

from dpo_lab.cli.conf import groups, options
from dpo_lab.cli.main import main
from dpo_lab.stages.train import Train

RAN: list[Train] = []
LIBRARY = re.compile(r"Error|Exception|Traceback|HydraEx|omegaconf|Could not|valid tuple|instance of|pydantic")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    RAN.clear()
    monkeypatch.setattr(Train, "run", lambda stage: RAN.append(stage))


def answered(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that answers a mistake."""
    assert main(shlex.split(command)) == 2, command
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert not LIBRARY.search(shown.err), shown.err
    assert shown.out == ""
    assert RAN == []
    return shown.err.removeprefix("error: ").rstrip("\n")


# ---------------------------------------------------------------- every group
VALUES = (
    "1",
    "4",
    "true",
    "null",
    "[]",
    "{}",
    "/data/pairs",
    "https://example.org/a/b",
    "",
    "1.5",
    "[1]",
    "[null]",
    "{a:1}",
    "a b",
)


@pytest.mark.parametrize("group", groups())
def test_what_is_no_option_of_a_group_is_answered_with_its_options(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    for value in VALUES:
        message = answered(f"train '{group}={value}'", capsys)
        assert message.startswith(f"{group}=")
        written = message.lower().partition("write ")[2]
        assert options(group)[0] in message or written.startswith((f"{group}=", f"{group}.")) or "KEY=VALUE" in message, message


@pytest.mark.parametrize(
    "command", ["+quant=4", "-m quant=none,4", "-m seed=0,1 quant=4", "--cfg job quant=4", "-m quant=true,none"]
)
def test_wherever_the_group_is_set(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ": this option does not exist. " in answered(f"train {command}", capsys)


@pytest.mark.parametrize("stage", ["pretrain policy=x", "export policy=x", "doctor"])
def test_in_every_stage(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "quant=4: this option does not exist. Did you mean '4bit'?" in answered(f"{stage} quant=4", capsys)


def test_what_the_configuration_library_raises_all_the_same_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dpo_lab.cli.main.refuse_choices", lambda *parsed, is_multirun: None)  # as if it had missed one
    assert main(["train", "quant=4"]) == 2
    assert capsys.readouterr().err.startswith("error: quant=4 cannot be composed (")


# ---------------------------------------------------------------- messages
MISTAKES = {
    "quant=4": "quant=4: this option does not exist. Did you mean '4bit'? Valid: 4bit, 8bit, none.",
    "hydra=1": "hydra=1: settings of",
    "=1": "'=1' names no key. Write group=option or key=value",
    "~model": "~model: every stage needs this group. ",
    "' loss=dpo'": " loss=dpo cannot be read: loss takes one option, and each setting is a separate word. Write loss=dpo",
    "debug=null": "debug=null: debug needs one of its options: fast, overfit, profile. Leave debug out to have none.",
    "data=https://huggingface.co/datasets/a/b": "data=https://huggingface.co/datasets/a/b: nothing is read from an address. ",
    "data.path=": "data.path=: the path is empty. Write data.path=PATH",
    "threads=4": "threads is neither a group nor a key. Leave it out: OMP_NUM_THREADS=4 in front of the command",
    "hydra.launcher=basic": "hydra.launcher=basic: this is chosen like a group, for several runs. Write -m hydra/launcher=basic",
    "-m hydra/launcher=slurm seed=0,1": "hydra/launcher=slurm: this launcher does not exist. Valid: basic, joblib, ray",
    "loss._target_=dpo_lab.stages.train.Train": (
        "loss._target_=dpo_lab.stages.train.Train: a subclass of dpo_lab.losses.base.PreferenceLoss belongs here, "
        "and Train is not one. Write loss=OPTION, with one of aot aot_unpaired "
    ),
    "callbacks.checkpoint._target_=dpo_lab.losses.dpo.DPOLoss": (
        "callbacks.checkpoint._target_=dpo_lab.losses.dpo.DPOLoss: a subclass of "
        "dpo_lab.training.callbacks.RunCallback belongs here, and DPOLoss is not one."
    ),
    "ranker._target_=dpo_lab.losses.dpo.DPOLoss": "ranker._target_=dpo_lab.losses.dpo.DPOLoss: a subclass of dpo_lab.ranking",
    "recipe.token_budget=512 gradient_checkpointing=true": (
        "gradient_checkpointing is neither a group nor a key. Write model.checkpointing=true"
    ),
    "recipe.beta=0.2 loss.beta=0.1": "`recipe.beta=0.2` has no effect: loss=dpo takes recipe.beta, but loss.beta=0.1 gives ",
    "hydra.launcher.n_jobs=2": "hydra.launcher.n_jobs=2 has no effect on a single run: it is for several (-m). Leave it out.",
    "tags.0._target_=x": "tags.0._target_: only a mapping has keys below it.",
    "seed=abc": "seed=abc: Input should be a whole number.",
    "loss.beta=abc": "loss.beta=abc: Input should be a number.",
    "force=maybe": "force=maybe: Input should be true or false.",
    "model.quant=4": "model.quant=4: this part is chosen by its group. Write quant=OPTION, with one of 4bit, 8bit, none.",
    "'notes=${oc.env:NOPE}'": "${oc.env:NOPE}: the environment has no variable NOPE. Set it, or write ${oc.env:NOPE,DEFAULT}",
    "seed=range(0,3)": "seed=range(0,3) names several values. Add -m to run each of them.",
    "-m seed=interval(0,3)": "interval(...) needs a sweeper that searches. ",
    "loss=DPO": "loss=DPO: this option does not exist. Did you mean 'dpo'? ",
    "optim.betas=[0.9]": "optim.betas=[0.9]: the list is too short: value 2 is missing.",
    "optim.wd=1": "optim.wd is not known. Did you mean 'optim.weight_decay'? ",
    "loss._target_=my_losses.Mine": "loss._target_=my_losses.Mine: Python finds no module my_losses. Put PYTHONPATH=DIR ",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_answered_in_the_user_s_words(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert answered(f"train {command}", capsys).startswith(MISTAKES[command])


PLUGINS = {
    "hydra.launcher=joblib": "it is not installed. Type pip install hydra-joblib-launcher and then -m hydra/launcher=joblib",
    "-m hydra/launcher=joblib seed=0,1": "it is not installed. Type pip install hydra-joblib-launcher and then the same command",
    "-m hydra/sweeper=optuna seed=0,1": "it is not installed. Type pip install hydra-optuna-sweeper and then the same command",
}


@pytest.mark.parametrize("command", PLUGINS)
def test_a_package_of_hydra_that_is_not_installed_is_named(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dpo_lab.cli.plugins.is_installed", lambda package: False)  # whatever stands on this machine
    assert answered(f"train {command}", capsys).endswith(PLUGINS[command])


def test_a_launcher_that_is_installed_is_chosen_like_a_group(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dpo_lab.cli.plugins.is_installed", lambda package: True)
    said = answered("train hydra.launcher=joblib", capsys)
    assert said.endswith("this is chosen like a group, for several runs. Write -m hydra/launcher=joblib")


# command: what its answer proposes, which is typed in its place
REMEDIES = {
    "data.path=pairs.jsonl": "data=jsonl data.path=pairs.jsonl",
    "data=/data/pairs": "data=jsonl data.path=/data/pairs",
    "data=~/pairs.jsonl": "data=jsonl data.path=HOME/pairs.jsonl",
    "'data=\"/my data/a.jsonl\"'": "\"data.path='/my data/a.jsonl'\"",
    "model=/models/mine data=jsonl data.path=x": "model=local model.path=/models/mine",
    "model=a/b data=jsonl data.path=x": "model=local model.path=a/b",
    "model=https://huggingface.co/a/b data=jsonl data.path=x": "model=local model.path=a/b",
    "loss=simpo recipe.beta=2": "loss.beta=2",
    "tags=foo": "tags=[foo]",
    "model.quant=none": "quant=none",
    "adapter=lora adapter.r=8": "adapter.rank",
    "adapter.rank=8": "adapter=lora adapter.rank=8",
    "seed=[0,1]": "-m seed=0,1",
    "seed=[3]": "seed=3",
    "seed={0,1}": "-m seed=0,1",
    "seed=0 seed=1": "-m seed=0,1",
    "iterations=2": "iteration.rounds=2",
    "data.jsonl.path=pairs.jsonl": "data=jsonl data.path=pairs.jsonl",
    "fp16=true": "precision=fp16",
    "bf16=true": "precision=bf16",
    "rank=8": "adapter=lora adapter.rank=8",
    "training.learning_rate=1e-5": "optim.lr=1e-5",
    "hydra.run.dir=x": "paths.outputs=x",
    "--per_device_train_batch_size 8": "trainer.batch_size=8",
    "loss==ipo": "loss=ipo",
    "loss=ipo,": "Write loss=ipo",
    "callbacks.early_stopping.patience=3": "callbacks=early_stopping callbacks.early_stopping.patience=3",
    "callbacks.checkpoint=null": "'~callbacks.checkpoint'",
    "notes=4": "notes=\"'4'\"",
    "data=jsonl data.path=4": "data.path=\"'4'\"",
}
WHOLE = {  # what is typed where the remedy is only a part of the command
    "'data=\"/my data/a.jsonl\"'": "data=jsonl {}",
    "model=/models/mine data=jsonl data.path=x": "{} data=jsonl data.path=x",
    "model=a/b data=jsonl data.path=x": "{} data=jsonl data.path=x",
    "model=https://huggingface.co/a/b data=jsonl data.path=x": "{} data=jsonl data.path=x",
    "loss=ipo,": "loss=ipo",
    "loss=simpo recipe.beta=2": "loss=simpo {}",
    "adapter=lora adapter.r=8": "adapter=lora {}=8",
    "data=jsonl data.path=4": "data=jsonl {}",
}


@pytest.mark.parametrize("command", REMEDIES)
def test_the_remedy_of_a_message_is_accepted_when_it_is_typed(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remedy = REMEDIES[command].replace("HOME", str(tmp_path / "home"))
    assert remedy in answered(f"train {command}", capsys)
    assert main(["train", *shlex.split(WHOLE.get(command, "{}").format(remedy))]) == 0
    assert RAN


def test_a_path_may_begin_at_home(tmp_path: Path) -> None:
    for written in ("data.path=~/x.jsonl", "data.path='~/x.jsonl'", "data.path=~"):
        assert main(["train", "data=jsonl", written, "notes='~/x'"]) == 0
    paths = [(str(stage.data.path), stage.notes) for stage in RAN]  # type: ignore[attr-defined]
    home = tmp_path / "home"
    assert paths == [(f"{home}/x.jsonl", "~/x")] * 2 + [(str(home), "~/x")]


def test_options_below_a_directory_and_from_a_searchpath_are_options() -> None:
    Path("mine/loss/own").mkdir(parents=True)
    Path("mine/loss/own/first.yaml").write_text("_target_: dpo_lab.losses.dpo.DPOLoss\nbeta: 0.7\nlabel_smoothing: 0.0\n")
    assert main(["train", "--config-dir", "mine", "loss=own/first"]) == 0
    assert main(["train", f"hydra.searchpath=[file://{Path('mine').absolute()}]", "loss=own/first"]) == 0
    assert [stage.loss.beta for stage in RAN] == [0.7, 0.7]
