"""The directory of a run: one place names, writes and reads its files."""

import ast
import os
from pathlib import Path

import pytest

from dpo_lab import run_directory
from dpo_lab.run_directory import CALL, METRICS, REPORT, RUN, SAMPLES, SCREEN, SUMMARY, RunDirectory, runs_below

PACKAGE = Path(run_directory.__file__).parent
NAMES = {CALL, METRICS, REPORT, RUN, SAMPLES, SCREEN, SUMMARY}  # config.json is a model's file too


def begun(path: Path, name: str = "a") -> RunDirectory:
    path.mkdir(parents=True)
    run = RunDirectory(path)
    run.begin(call={"command": "c"}, config={"seed": 0}, run={"name": name})
    return run


def test_what_a_run_writes_is_read_again(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    assert run.is_run
    run.finish(screen=["one", "two"], summary={"kl": 0.5}, run={"name": "a", "lineage": []})
    assert (run.summary(), run.config(), run.run()) == ({"kl": 0.5}, {"seed": 0}, {"name": "a", "lineage": []})
    assert run.screen() == "one\ntwo"
    assert run.read(CALL) == {"command": "c"}


def test_a_run_from_python_has_no_call(tmp_path: Path) -> None:
    RunDirectory(tmp_path).begin(call=None, config={}, run={})
    assert not (tmp_path / CALL).exists()
    assert RunDirectory(tmp_path).read_if_whole(CALL) == {}


@pytest.mark.parametrize("text", ["", "[1]", "{", "7"], ids=["empty", "list", "cut", "number"])
def test_a_file_that_holds_no_object_is_refused_or_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / RUN).write_text(text)
    assert RunDirectory(tmp_path).read_if_whole(RUN) == {}
    with pytest.raises(ValueError):
        RunDirectory(tmp_path).run()


def test_a_lone_half_of_a_surrogate_pair_does_not_end_the_report(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path).write_report("a\ud800b").read_text() == "a?b"


def test_the_run_that_was_written_last_comes_first(tmp_path: Path) -> None:
    for number, name in enumerate(("old", "new", "middle")):
        written = begun(tmp_path / "train" / name, name).path / RUN
        stamp = {"old": 1, "middle": 2, "new": 3}[name] * 10**9 + number
        os.utime(written, ns=(stamp, stamp))
    assert [run.path.name for run in runs_below(tmp_path)] == ["new", "middle", "old"]


def test_no_other_file_spells_the_names_of_a_run_s_files() -> None:
    spelt = {
        str(path.relative_to(PACKAGE)): sorted(
            {str(node.value) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)} & NAMES
        )
        for path in PACKAGE.rglob("*.py")
        if path != Path(run_directory.__file__)
    }
    assert {file: names for file, names in spelt.items() if names} == {}
