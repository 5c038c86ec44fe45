"""What a run records of machine and code, and the call that a stage can ask for."""

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_lab.call import Call
from dpo_lab.environment import environment, git_state

CALL = Call(
    command="python train.py loss=ipo",
    cwd="/there",
    overrides=("loss=ipo",),
    differences=({"key": "loss.beta", "default": 0.1, "value": 0.3},),
    config={"_target_": "dpo_lab.stages.train.Train", "tags": ["a"], "seed": 0},
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git repository with one committed file of code."""
    (tmp_path / "dpo_lab").mkdir()
    (tmp_path / "dpo_lab" / "code.py").write_text("one = 1\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first")
    return tmp_path


def git(directory: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(directory), *words], capture_output=True, text=True, check=True).stdout.strip()


def test_an_environment_is_plain_data() -> None:
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert found["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    assert found["packages"]["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["cores"] >= 1
    assert datetime.fromisoformat(found["started"]).tzinfo is not None


def test_keys_and_tokens_in_variables_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "s3cret-value")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = environment()
    assert "s3cret-value" not in json.dumps(found)
    assert found["variables"]["OMP_NUM_THREADS"] == "3"


def test_an_environment_is_recorded_without_loading_a_package_that_it_names() -> None:
    code = "import sys; from dpo_lab.environment import environment; environment(); print({'torch', 'wandb'} & set(sys.modules))"
    root = Path(__file__).resolve().parents[1]
    environ = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ)
    assert done.stdout == "set()\n"


def test_code_that_is_as_committed_is_clean_whatever_else_lies_there(checkout: Path) -> None:
    (checkout / "my_pairs.jsonl").write_text("")
    assert git_state(checkout) == {"revision": git(checkout, "rev-parse", "HEAD"), "dirty": False}


@pytest.mark.parametrize("file", ["dpo_lab/code.py", "conf/loss/mine.yaml"])
def test_changed_or_new_code_and_configuration_is_dirty(checkout: Path, file: str) -> None:
    (checkout / file).parent.mkdir(parents=True, exist_ok=True)
    (checkout / file).write_text("two = 2\n")
    state = git_state(checkout)
    assert state is not None
    assert state["dirty"] is True


def test_a_package_installed_inside_another_repository_has_no_revision(checkout: Path) -> None:
    assert git_state(checkout / "dpo_lab") is None


def test_without_git_or_a_commit_there_is_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "--quiet")
    assert git_state(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert git_state(tmp_path) is None


def test_a_call_survives_json() -> None:
    assert Call.from_record(json.loads(json.dumps(CALL.to_record()))) == CALL


@pytest.mark.parametrize("record", [{}, {**CALL.to_record(), "another": 1}, {"command": "x"}])
def test_a_record_of_something_else_is_no_call(record: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError)):
        Call.from_record(record)
