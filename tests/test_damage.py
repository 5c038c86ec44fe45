"""Damage of artifacts: which files are compared when, and what the record of large ones proves."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from dpo_lab import artifacts, damage
from dpo_lab.artifacts import MANIFEST, Artifact, Plan, refuse_damage
from dpo_lab.components import RunError
from dpo_lab.damage import BEGUN, RECORD, SUSPECT, examine, forget
from dpo_lab.durable_files import file_digest, write_durably
from dpo_lab.manifests import sealed
from tests.artifact_parts import flip, opened, plan, write_rows


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are compared with their sha256."""
    names: list[str] = []
    digest = file_digest

    def noting(path: Path, *rest: Any) -> str:
        names.append(path.name)
        return digest(path, *rest)

    monkeypatch.setattr(damage, "file_digest", noting)
    return names


def test_small_files_are_compared_by_every_process_and_once_in_it(tmp_path: Path, compared: list[str]) -> None:
    made = plan(tmp_path).make(write_rows)
    assert not (made.path / RECORD).exists()
    assert opened(made.path)
    assert sorted(compared) == ["large.bin", "rows.txt"]
    assert Artifact.open(made.path)
    assert len(compared) == 2
    flip(made.path / "rows.txt", keep_time=True)
    assert Artifact.open(made.path), "this process has compared it, and size, time and inode are the same"
    assert not opened(made.path)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "ALWAYS", 50)


@pytest.mark.usefixtures("large")
def test_large_files_are_compared_when_size_time_or_inode_are_others(tmp_path: Path, compared: list[str]) -> None:
    made = plan(tmp_path).make(write_rows)
    assert opened(made.path)
    assert compared == ["rows.txt"]
    os.utime(made.path / "large.bin", ns=(0, 0))
    compared.clear()
    assert opened(made.path)
    assert sorted(compared) == ["large.bin", "rows.txt"]
    compared.clear()
    assert opened(made.path), "recorded again"
    assert compared == ["rows.txt"]
    copy = Path(shutil.copytree(made.path, tmp_path / "copy"))  # the times stay, the inodes do not
    compared.clear()
    assert opened(copy)
    assert opened(copy)
    assert sorted(compared) == ["large.bin", "rows.txt", "rows.txt"]
    flip(made.path / "large.bin")
    assert not opened(made.path)


@pytest.mark.usefixtures("large")
def test_a_record_that_is_damaged_absent_or_of_another_manifest_is_no_proof(tmp_path: Path, compared: list[str]) -> None:
    made = plan(tmp_path).make(write_rows)
    other = Plan(tmp_path, "pairs", "films", {"seed": 1}).make(write_rows)
    whole = (made.path / RECORD).read_text()
    for text in ("", "[]", "{}", '{"manifest": 1}', whole.replace("large.bin", "large.bjn"), (other.path / RECORD).read_text()):
        (made.path / RECORD).write_text(text)
        compared.clear()
        assert opened(made.path)
        assert "large.bin" in compared
        assert (made.path / RECORD).read_text() == whole


@pytest.mark.usefixtures("large")
def test_a_record_that_cannot_be_written_is_left_out(
    tmp_path: Path, compared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: Any) -> None:
        raise OSError(30, "Read-only file system")

    made = plan(tmp_path).make(write_rows)
    (made.path / RECORD).unlink()
    monkeypatch.setattr(damage, "write_durably", refused)
    assert opened(made.path)
    assert opened(made.path)
    assert compared.count("large.bin") == 2


@pytest.mark.usefixtures("large")
def test_a_bit_that_rots_in_a_large_file_is_found_by_a_thorough_look_and_never_used_after_it(tmp_path: Path) -> None:
    made = plan(tmp_path).make(write_rows)
    flip(made.path / "large.bin", keep_time=True)
    assert opened(made.path)
    assert examine(made.path, thorough=True).damage == "large.bin does not match its sha256"
    assert not Artifact.open(made.path)
    assert not opened(made.path)


def test_a_copy_by_hard_links_is_mended_without_touching_the_original(tmp_path: Path) -> None:
    made = plan(tmp_path / "one").make(write_rows)
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=os.link)
    copy = plan(tmp_path / "two")
    (copy.path / "rows.txt").unlink()
    assert copy.make(write_rows).made_now
    assert opened(made.path)
    assert (made.path / "rows.txt").read_text() == "one\n"


def test_a_file_that_may_not_be_read_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(tmp_path).make(write_rows)

    def forbidden(path: Path, *rest: Any) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(damage, "file_digest", forbidden)
    forget()
    with pytest.raises(RunError, match=r"cannot be read \(Permission denied\)"):
        plan(tmp_path).make(write_rows)
    assert (made.path / MANIFEST).exists()


def test_a_file_whose_sectors_cannot_be_read_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(tmp_path).make(write_rows)

    def unreadable(path: Path, *rest: Any) -> str:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(damage, "file_digest", unreadable)
    forget()
    assert examine(made.path).damage == "large.bin does not match its sha256, rows.txt does not match its sha256"


@pytest.mark.usefixtures("large")
def test_a_record_of_files_proves_nothing_of_another_manifest(tmp_path: Path) -> None:
    made = plan(tmp_path).make(write_rows)
    files = {**made.manifest["files"], "large.bin": {"bytes": 100, "sha256": "0" * 64}}
    (made.path / MANIFEST).write_text(json.dumps(sealed({**made.manifest, "files": files})))
    forget()
    assert examine(made.path).damage == "large.bin does not match its sha256"


def test_a_damaged_part_that_can_resume_starts_over(tmp_path: Path) -> None:
    made = plan(tmp_path).make(write_rows)
    flip(made.path / "rows.txt")
    forget()

    def look(directory: Path) -> dict[str, Any]:
        return {"there": [path.name for path in directory.iterdir() if path.name != BEGUN]}

    assert plan(tmp_path).make(look, resume=True).facts == {"there": []}


def test_marks_of_an_earlier_artifact_do_not_outlive_it(tmp_path: Path) -> None:
    never_damaged = Plan(tmp_path, "pairs", "films", {"seed": "never damaged"})
    made = never_damaged.make(write_rows)
    (made.path / MANIFEST).unlink()
    for name in (RECORD, SUSPECT):
        (made.path / name).write_text("{}")
    assert set(never_damaged.make(write_rows, resume=True).manifest["files"]) == {"large.bin", "rows.txt"}
    assert opened(made.path)


def test_files_are_on_the_disk_before_the_manifest_that_lists_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[tuple[str, bool]] = []

    def note(path: Path) -> None:
        flushed.append((path.name, (path.parent / MANIFEST).exists()))

    monkeypatch.setattr(artifacts, "flush_to_disk", note)
    plan(tmp_path).make(write_rows)
    assert flushed == [("large.bin", False), ("rows.txt", False)]


def test_a_durable_file_is_on_the_disk_before_it_gets_its_name_and_its_name_after_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "text"
    path.write_text("old")
    flushed: list[tuple[bool, str]] = []

    def note(number: int) -> None:
        kind = os.fstat(number)
        flushed.append((kind.st_ino == tmp_path.stat().st_ino, path.read_text()))

    monkeypatch.setattr(os, "fsync", note)
    write_durably(path, "new")
    assert flushed == [(False, "old"), (True, "new")]


def test_a_directory_that_another_part_reads_is_refused_if_it_is_a_damaged_artifact(tmp_path: Path) -> None:
    made = plan(tmp_path).make(write_rows)
    refuse_damage(made.path)
    refuse_damage(tmp_path)
    flip(made.path / "rows.txt")
    forget()
    refuse_damage(tmp_path)
    with pytest.raises(RunError, match=r"films\S* is damaged: rows.txt .*\. Run the same command again to make it again\."):
        refuse_damage(made.path)
