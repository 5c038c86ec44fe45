"""Artifacts: named by content, manifest last, made once."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.artifacts import MANIFEST, Artifact, Plan
from dpo_lab.components import RunError
from dpo_lab.manifests import sealed


def writer(directory: Path) -> dict[str, Any]:
    (directory / "rows.txt").write_text("one\n")
    return {"rows": 1}


def plan(root: Path, **content: Any) -> Plan:
    return Plan(root, "pairs", "films-round1", content or {"seed": 0}, parents=["abc"])


def test_the_directory_is_named_by_what_determines_its_content(tmp_path: Path) -> None:
    made = plan(tmp_path).make(writer)
    assert made.path == tmp_path / "pairs" / f"films-round1-{made.id[:8]}"
    assert plan(tmp_path, seed=1).path != made.path


def test_the_manifest_tells_kind_parents_content_facts_and_digests(tmp_path: Path) -> None:
    manifest = json.loads((plan(tmp_path).make(writer).path / MANIFEST).read_text())
    assert manifest["kind"] == "pairs"
    assert manifest["parents"] == ["abc"]
    assert manifest["content"] == {"seed": 0}
    assert manifest["facts"] == {"rows": 1}
    # sha256 of "one\n"
    digest = "2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806"
    assert manifest["files"] == {"rows.txt": {"bytes": 4, "sha256": digest}}


@pytest.mark.parametrize("damage", ["rows.txt", MANIFEST])
def test_an_artifact_that_lost_or_cut_a_file_is_made_again(tmp_path: Path, damage: str) -> None:
    made = plan(tmp_path).make(writer)
    (made.path / damage).write_text("{")
    assert plan(tmp_path).finished() is None
    assert plan(tmp_path).make(writer).made_now
    (made.path / "rows.txt").unlink()
    assert plan(tmp_path).finished() is None


def test_two_ids_that_begin_alike_are_not_taken_for_each_other(tmp_path: Path) -> None:
    made = plan(tmp_path).make(writer)
    manifest = json.loads((made.path / MANIFEST).read_text())
    other = {name: value for name, value in manifest.items() if name != "digest"} | {"id": manifest["id"][:8] + "0" * 56}
    (made.path / MANIFEST).write_text(json.dumps(sealed(other)))
    with pytest.raises(RunError, match="another artifact whose id begins alike"):
        plan(tmp_path).make(writer)


def test_a_finished_artifact_is_not_made_again_unless_forced(tmp_path: Path) -> None:
    calls: list[Path] = []

    def count(directory: Path) -> dict[str, Any]:
        calls.append(directory)
        return {}

    for force in (False, False, True):
        plan(tmp_path).make(count, force=force)
    assert len(calls) == 2


def test_a_directory_without_manifest_is_unfinished_and_made_anew(tmp_path: Path) -> None:
    def killed(directory: Path) -> dict[str, Any]:
        (directory / "half.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan(tmp_path).make(killed)
    assert plan(tmp_path).finished() is None
    made = plan(tmp_path).make(writer)
    assert sorted(path.name for path in made.path.iterdir()) == [MANIFEST, "rows.txt"]


def test_two_that_want_the_same_artifact_make_it_once(tmp_path: Path) -> None:
    calls: list[Path] = []
    started, go_on = threading.Event(), threading.Event()

    def slow(directory: Path) -> dict[str, Any]:
        calls.append(directory)
        started.set()
        assert go_on.wait(10)
        return {}

    found: list[Artifact] = []
    threads = [threading.Thread(target=lambda: found.append(plan(tmp_path).make(slow))) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert started.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert len(calls) == 1
    assert found[0].id == found[1].id


def test_a_part_that_goes_on_finishes_again_when_a_finished_one_has_lost_a_file(tmp_path: Path) -> None:
    made = plan(tmp_path).make(writer, resume=True)
    (made.path / "rows.txt").unlink()
    (made.path / ".rows.txt.1.tmp").write_text("half")
    again = plan(tmp_path).make(writer, resume=True)
    assert again.made_now
    assert set(again.manifest["files"]) == {"rows.txt"}
    assert not plan(tmp_path).make(writer, resume=True).made_now


def test_files_that_stand_apart_may_change_afterwards(tmp_path: Path) -> None:
    apart = Plan(tmp_path, "train", "run", {"seed": 0}, apart=("loggers", "report.html"))

    def produce(directory: Path) -> dict[str, Any]:
        (directory / "loggers").mkdir()
        (directory / "loggers" / "log.csv").write_text("step\n")
        (directory / "report.html").write_text("<p>")
        return writer(directory)

    made = apart.make(produce)
    assert set(made.manifest["files"]) == {"rows.txt"}
    (made.path / "loggers" / "log.csv").write_text("step\n1\n")
    (made.path / "report.html").unlink()
    assert not apart.make(produce).made_now


def test_the_lock_is_free_when_making_has_failed(tmp_path: Path) -> None:
    def fail(directory: Path) -> dict[str, Any]:
        raise RunError("no")

    with pytest.raises(RunError) as held:  # its traceback keeps the failed call's frames alive
        plan(tmp_path).make(fail)
    assert plan(tmp_path).make(writer).made_now
    assert held.value.args == ("no",)
