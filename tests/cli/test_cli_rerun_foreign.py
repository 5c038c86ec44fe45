"""`rerun=DIR` of a run that somebody else may have made: which code it may import, and what of it is only text."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_lab.call import Call
from dpo_lab.cli.main import train
from dpo_lab.reference.cached import CachedReference
from dpo_lab.stages.train import Train
from dpo_lab.training.group import Group
from dpo_lab.training.processes import start
from tests.cli.test_cli_rerun import RAN, RECORDED, _double, recorded, run

__all__ = ["_double"]  # the stand-in for a training, around each test


INTRUDER = """
from pathlib import Path
Path(__file__).with_name("imported").touch()
from dpo_lab.components import component
from dpo_lab.losses.dpo import DPOLoss

@component
class Mine(DPOLoss):
    pass

def fire(**fields):
    Path(__file__).with_name("fired").touch()
"""


@pytest.fixture
def intruder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of a package `intruder`, which says that it was imported by a file beside it."""
    package = tmp_path / "intruder"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "code.py").write_text(INTRUDER)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield package
    for name in ("intruder", "intruder.code"):
        sys.modules.pop(name, None)


def named(target: str) -> dict[str, Any]:
    return {"_target_": target, "beta": 0.3, "label_smoothing": 0.0}


def test_foreign_code_of_a_run_is_not_imported_without_trust(intruder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RECORDED.update(loss=named("intruder.code.Mine"))
    directory = recorded()
    assert train([f"rerun={directory}"]) == 2
    assert capsys.readouterr().err == (
        f"error: rerun={directory}: the run names code from outside dpo_lab, which was not imported: "
        "loss._target_=intruder.code.Mine; if you trust that code, add trust=intruder.code\n"
    )
    assert not (intruder / "imported").exists()
    assert len(RAN) == 1


@pytest.mark.parametrize("trust", ["intruder", "intruder.code", "[intruder]", "'intruder.code'"])
def test_trusted_code_is_imported_and_built(trust: str, intruder: Path) -> None:
    RECORDED.update(loss=named("intruder.code.Mine"))
    directory = recorded()
    RECORDED.clear()
    train([f"rerun={directory}", f"trust={trust}"])
    assert (type(RAN[1].loss).__name__, RAN[1].loss.beta) == ("Mine", 0.3)


def test_trusted_code_is_still_to_be_a_component(intruder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RECORDED.update(loss=named("intruder.code.fire"))
    directory = recorded()
    assert train([f"rerun={directory}", "trust=intruder"]) == 2
    assert "loss._target_=intruder.code.fire: this is a function" in capsys.readouterr().err
    assert (intruder / "imported").exists()
    assert not (intruder / "fired").exists()


def test_modules_are_named_together_and_a_trust_that_nothing_needs_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    RECORDED.update(loss=named("one.Loss"), notes=[{"_target_": "os.system"}])
    directory = recorded()
    assert train([f"rerun={directory}"]) == 2
    assert capsys.readouterr().err.endswith("add trust=[one,os]\n")
    RECORDED.clear()
    assert train([f"rerun={recorded('seed=1')}", "trust=one"]) == 2
    assert capsys.readouterr().err == "error: trust=one has no effect: the run names no code of it. Leave it out.\n"
    assert train(["trust=one"]) == 2
    assert capsys.readouterr().err.startswith("error: trust=one goes with rerun=DIR")


def test_a_recorded_configuration_of_another_stage_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    RECORDED.update(_target_="dpo_lab.stages.export.Export")
    directory = recorded()
    assert train([f"rerun={directory}"]) == 2
    assert "is not that of dpo_lab.stages.train.Train, so it cannot be repeated" in capsys.readouterr().err


def test_a_directory_that_a_recorded_part_would_write_into_is_left_out(tmp_path: Path) -> None:
    directory = recorded(f"reference.root={tmp_path / 'elsewhere'}")
    assert train([f"rerun={directory}"]) == 0
    one, other = (stage.reference for stage in RAN)
    assert isinstance(one, CachedReference)
    assert isinstance(other, CachedReference)
    assert (one.root, other.root) == (tmp_path / "elsewhere", None)


def test_text_of_a_recorded_configuration_is_not_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "a token")
    RECORDED.update(notes="${oc.env:SECRET}")
    directory = recorded()
    RECORDED.clear()
    assert train([f"rerun={directory}"]) == 0
    assert RAN[1].notes == "${oc.env:SECRET}"


def test_nothing_is_imported_from_the_directory_that_the_run_was_called_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = recorded()
    (tmp_path / "first" / "planted.py").touch()
    monkeypatch.chdir(tmp_path / "second")
    monkeypatch.setattr(sys, "path", ["", *sys.path])  # as with python -c
    found: list[object] = []

    def look(stage: Train, call: Call | None = None) -> dict[str, float]:
        found.extend([Path.cwd(), find_spec("planted")])
        return run(stage, call)

    monkeypatch.setattr(Train, "run", look)
    assert train([f"rerun={directory}"]) == 0
    assert found == [tmp_path / "first", None]


def test_a_process_that_trains_beside_this_one_imports_nothing_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StartedError(Exception):
        pass

    def note(command: list[str], *, env: dict[str, str], **pipes: Any) -> None:
        raise StartedError(command, env)

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", note)
        with pytest.raises(StartedError) as started:
            start(Group(1, 2), torch.device("cpu"), 1, print)
    (*interpreter, code), env = started.value.args
    assert interpreter[-1] == "-c"
    assert "dpo_lab" in code
    (tmp_path / "pickle.py").touch()
    where = [*interpreter, "import pickle; print(pickle.__file__)"]
    found = subprocess.run(where, env=env, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()) != tmp_path / "pickle.py"
