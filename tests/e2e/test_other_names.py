"""Every name that another tool has for a setting is answered with what it is called here, which is accepted when it is typed."""

import re
import shlex
from pathlib import Path

import pytest

from dpo_lab.cli.main import main
from dpo_lab.cli.other_names import OTHER_NAMES, here
from tests.e2e.until_work import end_before_work

VALUES = {  # what a person gives: by the key that it is here; elsewhere 1
    "model.path": "my_model",
    "data.path": "my_pairs.jsonl",
    "adapter": "lora",
    "adapter.target_modules": "[q_proj]",
    "adapter.modules_to_save": "[lm_head]",
    "adapter.dropout": "0.1",
    "optim": "adamw",
    "optim.lr": "1e-4",
    "optim.schedule": "linear",
    "optim.warmup": "0.05",
    "optim.betas": "0.95",
    "quant": "4",
    "loss": "ipo",
    "logger": "tensorboard",
    "recipe.max_length": "256",
    "callbacks.checkpoint.best": "rewards/margins",
    "paths.outputs": "elsewhere",
    "tags": "first",
    "logger.wandb.project": "mine",
}
BY_REMEDY = sorted(OTHER_NAMES, key=OTHER_NAMES.__getitem__)
"""Names with one remedy follow one another: a few compositions are kept, so that it is composed once."""
ACCEPTED: set[str] = set()
"""The remedies that were typed and accepted."""
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end_before_work(tmp_path, monkeypatch)


def typed(name: str) -> str:
    """Return a name with a value that a person could give it."""
    if "=" in name:
        return name
    targets = [word.partition("=")[0] for word in OTHER_NAMES[name].split() if "VALUE" in word]
    return f"{name}={VALUES.get(targets[0], '1') if targets else 'true'}"


@pytest.mark.parametrize("name", BY_REMEDY)
def test_a_name_of_another_tool_is_answered_with_what_is_accepted(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = typed(name)
    assert main(["train", command]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    if not (here(*command.split("=", 1)) or ("", ""))[0]:
        assert " Leave it out: " in said
        return
    remedy = re.search(r" Write ((?:[\w.]+=\S+ ?)+)", said)
    assert remedy, said
    if remedy[1] not in ACCEPTED:  # several names have the same remedy
        assert main(["train", *shlex.split(remedy[1])]) == 1
        assert capsys.readouterr().err == "error: accepted\n"
        ACCEPTED.add(remedy[1])


def test_no_name_of_another_tool_is_a_key_of_the_stage_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--cfg", "job"]) == 0
    own = re.findall(r"^(\w+):", capsys.readouterr().out, re.M)
    assert len(own) > 20
    assert [name for name in OTHER_NAMES if name in own] == []
