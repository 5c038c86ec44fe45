"""One changed byte in any file of a finished run is noticed by the same command; neither it nor what was made from it is used."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_lab.artifacts import MANIFEST
from dpo_lab.cli.main import main
from dpo_lab.components import RunError
from dpo_lab.damage import SUSPECT, examine
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.pipeline import rounds
from dpo_lab.pipeline.ranking import PAGE
from dpo_lab.run_directory import REPORT
from dpo_lab.stages.train import Train
from dpo_lab.training.iteration import Iteration
from tests.small_stage import MODEL, stage


class ReachedError(Exception):
    """The finished run was not taken for one."""


def run_in(outputs: Path) -> Train:
    return stage(outputs, model=replace(MODEL, sft_examples=32), iteration=Iteration(rounds=1))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("finished")
    run_in(outputs).run()
    return outputs


def copied(finished: Path, place: Path) -> Path:
    """Return a copy by hard links, whose damage does not reach the original."""
    return Path(shutil.copytree(finished, place, copy_function=os.link))


def flip(path: Path, at: float = 0.5) -> None:
    """Change one bit of a file, in a new file of the same size."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 1
    path.unlink()
    path.write_bytes(data)


PAGES = (REPORT, PAGE)  # drawn anew from what is covered


def files_of(outputs: Path) -> list[Path]:
    covered = [path for path in sorted(outputs.rglob("*")) if path.is_file() and path.name not in PAGES]
    return [path.relative_to(outputs) for path in covered if not path.name.endswith(".lock")]


def test_a_bit_of_any_file_is_noticed_and_nothing_is_shown_of_the_finished_run(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def reached(*arguments: Any, **settings: Any) -> dict[str, Any]:
        raise ReachedError

    monkeypatch.setattr(rounds, "run_rounds", reached)
    files = files_of(finished)
    assert {file.parts[0] for file in files} == {
        *("candidates", "evaluation", "model", "pairs", "policy", "ranking", "reference", "tokens", "train")
    }
    for number, file in enumerate(files):
        outputs = copied(finished, tmp_path / str(number))
        flip(outputs / file)
        assert file.name in examine((outputs / file).parent).damage
        with pytest.raises(ReachedError):
            run_in(outputs).run()
        assert "this run was finished before" not in capsys.readouterr().out
    run_in(copied(finished, tmp_path / "whole")).run()
    assert "this run was finished before" in capsys.readouterr().out


def test_a_damaged_part_and_what_was_made_from_it_are_made_again_by_the_same_command(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = copied(finished, tmp_path / "out")
    (policy,) = (path.parent for path in outputs.glob(f"policy/*/{MANIFEST}"))
    (base,) = (path.parent for path in outputs.glob(f"model/*/{MANIFEST}"))
    weights = (policy / "model.safetensors").read_bytes()
    before = {path: path.stat().st_ino for path in outputs.glob(f"*/*/{MANIFEST}")}
    flip(policy / "model.safetensors", 0.9)
    summary = run_in(outputs).run()
    said = capsys.readouterr().out
    assert f"{policy} is damaged: model.safetensors does not match its sha256. It is made again" in said
    assert f"it was made from {policy}, which was damaged" in said
    again = {path.parent.parent.name for path, inode in before.items() if path.stat().st_ino != inode}
    assert again == {"policy", "evaluation", "train"}
    assert (base / MANIFEST).stat().st_ino == before[base / MANIFEST]
    assert (policy / "model.safetensors").read_bytes() == weights
    figures = {name: value for name, value in run_in(finished).run().items() if not name.startswith("seconds")}
    assert {name: value for name, value in summary.items() if not name.startswith("seconds")} == figures
    assert not list(outputs.rglob(SUSPECT))
    assert main(["verify", str(outputs)]) == 0


def test_a_base_that_is_damaged_while_a_run_goes_on_is_not_loaded(finished: Path, tmp_path: Path) -> None:
    outputs = copied(finished, tmp_path / "out")
    (base,) = (path.parent for path in outputs.glob(f"model/*/{MANIFEST}"))
    flip(base / "model.safetensors")
    with pytest.raises(RunError, match=r"is damaged: model\.safetensors does not match its sha256\. Run the same command"):
        ModelOnDisk(str(base), "base").load(torch.device("cpu"))
