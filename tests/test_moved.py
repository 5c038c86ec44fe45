"""Outputs that were moved, or copied by hard links: what is made there is found there, and the original stays as it is."""

import json
import os
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.artifacts import Plan
from dpo_lab.components import ConfigError
from dpo_lab.continuing import kept_part
from dpo_lab.export.settings import ExportSettings
from dpo_lab.export.source import source_of
from dpo_lab.loggers.metrics_file import MetricsFile
from dpo_lab.models.directory import base_of
from dpo_lab.models.load import load_model
from dpo_lab.own_files import make_own
from dpo_lab.stages.export import Export
from dpo_lab.training.iteration import Iteration
from tests.small_stage import directories, given, pairs_file, stage, with_lora


def linked(directory: Path, copy: Path) -> Path:
    """Copy a directory as `cp -al` does."""
    shutil.copytree(directory, copy, copy_function=os.link)
    return copy


def contents(directory: Path) -> dict[str, str]:
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): sha256(path.read_bytes()).hexdigest() for path in files}


def adapter_on(directory: Path, base: str) -> Path:
    directory.mkdir(parents=True)
    (directory / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    return directory


def artifact(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "manifest.json").write_text(json.dumps({"id": directory.name.rpartition("-")[2] + "9" * 56}))
    return directory


# ---------------------------------------------------------------- bases
def test_the_base_of_an_adapter_stands_beside_it_before_it_stands_where_it_was(tmp_path: Path) -> None:
    old = artifact(tmp_path / "old" / "model" / "tiny-0123abcd")
    adapter = adapter_on(tmp_path / "new" / "policy" / "round1-aaaaaaaa", str(old))
    assert base_of(str(adapter)) == str(old)
    new = artifact(tmp_path / "new" / "model" / "tiny-0123abcd")
    assert base_of(str(adapter)) == str(new)
    shutil.rmtree(tmp_path / "old")
    assert base_of(str(adapter)) == str(new)


@pytest.mark.parametrize("base", ["owner/name-0123abcd", "/somewhere/model/mine"])
def test_a_hub_id_and_a_directory_of_ones_own_stay(tmp_path: Path, base: str) -> None:
    adapter = adapter_on(tmp_path / "policy" / "round1-aaaaaaaa", base)
    other = tmp_path.joinpath(*Path(base).parts[-2:])
    other.mkdir(parents=True)
    assert base_of(str(adapter)) == base
    (other / "manifest.json").write_text(json.dumps({"id": "f" * 64}))
    assert base_of(str(adapter)) == base


def test_an_adapter_whose_base_is_gone_names_what_to_type(tmp_path: Path) -> None:
    adapter = adapter_on(tmp_path / "mine", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match=r"policy=.*mine is an adapter on .*gone, .* not there. If .* use export.base_p"):
        source_of(str(adapter))
    (tmp_path / "here").mkdir()
    assert source_of(str(adapter), str(tmp_path / "here")).base == str(tmp_path / "here")
    with pytest.raises(ConfigError, match=r"is an adapter on .*gone"):
        load_model(str(adapter))
    (tmp_path / "here" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"export\.base_path=else has no effect"):
        source_of(str(tmp_path / "here"), "else")


# ---------------------------------------------------------------- hard links
def test_a_file_gets_content_of_its_own_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    os.link(tmp_path / "a", tmp_path / "b")
    make_own(tmp_path / "b")
    (tmp_path / "b").write_text("two")
    inode = (tmp_path / "b").stat().st_ino
    make_own(tmp_path / "b")
    make_own(tmp_path / "absent")
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").stat().st_ino) == ("one", inode)


def test_appending_in_a_copy_by_hard_links_leaves_the_original(tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.mkdir()
    MetricsFile(one / "metrics.jsonl").write({"step": 1})
    with (one / "metrics.jsonl").open("a") as file:
        file.write('{"step"')  # what a kill left
    with kept_part("sample", 2, one) as keep:
        keep([0], lambda: "kept")
    before = contents(one)
    two = linked(one, tmp_path / "two")
    MetricsFile(two / "metrics.jsonl").write({"step": 2})
    with kept_part("sample", 2, two) as keep:
        assert [keep([0], lambda: "anew"), keep([1], lambda: "more")] == ["kept", "more"]
    assert contents(one) == before
    assert [row["step"] for row in MetricsFile(two / "metrics.jsonl").rows()] == [1, 2]


def test_what_is_continued_in_a_copy_by_hard_links_writes_into_files_of_its_own(tmp_path: Path) -> None:
    def stopped(directory: Path) -> dict[str, Any]:
        (directory / "part").mkdir()
        (directory / "part" / "weights").write_text("half")
        raise ZeroDivisionError

    def finished(directory: Path) -> dict[str, Any]:
        with (directory / "part" / "weights").open("r+") as file:
            file.write("whole")
        return {}

    with pytest.raises(ZeroDivisionError):
        Plan(tmp_path / "one", "model", "a", {}).make(stopped, resume=True)
    before = contents(tmp_path / "one")
    linked(tmp_path / "one", tmp_path / "two")
    Plan(tmp_path / "two", "model", "a", {}).make(finished, resume=True)
    assert contents(tmp_path / "one") == before


# ---------------------------------------------------------------- whole runs
@pytest.mark.slow
def test_a_moved_copy_of_a_run_with_an_adapter_is_continued_and_exported_and_the_original_stays(tmp_path: Path) -> None:
    old, new, kept = tmp_path / "old", tmp_path / "new", tmp_path / "kept"
    run = stage(old, model=with_lora(), iteration=Iteration(rounds=1))
    run.run()
    linked(old, new)
    old.rename(kept)  # no path that was written down leads anywhere
    (done,) = directories(new, "policy")
    (new / "policy" / done / "manifest.json").unlink()  # as after a kill: the round is finished in its own files
    before = contents(kept)
    again = replace(run, outputs=new, iteration=Iteration(rounds=2))
    again.run()
    assert done in directories(new, "policy")
    assert len(directories(new, "policy")) == 2
    assert contents(kept) == before
    assert not old.exists()
    newest = max((new / "train").glob("*/run.json"), key=lambda path: path.stat().st_mtime).parent
    assert Export(policy=str(newest), outputs=new).run()["gap"] <= 1e-3
    shutil.rmtree(new / "model")
    with pytest.raises(ConfigError, match=r"use export\.base_path=DIR"):
        Export(policy=str(newest), outputs=new, force=True).run()
    (base,) = (path.parent for path in kept.glob("model/*/config.json"))
    moved = Export(policy=str(newest), outputs=new, force=True, export=ExportSettings(base_path=str(base)))
    assert moved.run()["gap"] <= 1e-3
    assert contents(kept) == before


def test_a_finished_run_in_moved_outputs_names_where_they_are_now(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given(tmp_path / "first", pairs_file(tmp_path)).run()
    (tmp_path / "first").rename(tmp_path / "second")
    capsys.readouterr()
    given(tmp_path / "second", pairs_file(tmp_path)).run()
    shown = capsys.readouterr().out
    assert "this run was finished before" in shown
    assert str(tmp_path / "first") not in shown
    assert shown.count(str(tmp_path / "second")) == 5  # base model, policy, report, chat, export
