"""A checkpoint carries a digest of all that it holds and of the rows before it; a damaged one is named and not used."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_lab.durable_files import SEAL_LENGTH, flush_to_disk, read_sealed, seal_holds, sealed_file
from dpo_lab.loggers.metrics_file import MetricsFile
from dpo_lab.run_directory import METRICS, SAMPLES
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training import checkpoint_files
from dpo_lab.training.callbacks import Checkpoint
from dpo_lab.training.checkpoint_files import DIRECTORY, checkpoints, newest, rewind
from tests.training.stopping import KillAfter, Killed, Outcome, rows_of, some_pairs, train

KEPT = Checkpoint(every=1, keep=3)


@pytest.fixture(scope="module")
def store() -> TokenStore:
    return some_pairs()


@pytest.fixture(scope="module")
def undisturbed(store: TokenStore, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return train(store, tmp_path_factory.mktemp("whole"))


def stopped(store: TokenStore, directory: Path) -> dict[int, Path]:
    """Return the checkpoints of a training that was killed before the fifth was written."""
    with pytest.raises(Killed):
        train(store, directory, KillAfter(step=5), checkpoint=KEPT)
    return checkpoints(directory / DIRECTORY)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_one_bit_anywhere_in_the_newest_checkpoint_is_noticed(store: TokenStore, tmp_path: Path) -> None:
    path = stopped(store, tmp_path)[4]
    whole = path.read_bytes()
    assert newest(tmp_path / DIRECTORY) == path
    assert torch.load(path, weights_only=True)["global_step"] == 4, "others read it as any checkpoint"
    for at in range(0, len(whole), len(whole) // 150):
        flip(path, at)
        assert not seal_holds(path)
        path.write_bytes(whole)
    for at in range(len(whole) - SEAL_LENGTH, len(whole)):
        flip(path, at)
        assert not seal_holds(path)
        path.write_bytes(whole)
    for lost in (1, SEAL_LENGTH, SEAL_LENGTH + 1, len(whole)):
        path.write_bytes(whole[:-lost])
        assert not seal_holds(path)
    path.write_bytes(whole)
    flip(path, 100)  # in place, of the same size: this process has checked it before
    assert newest(tmp_path / DIRECTORY) == checkpoints(tmp_path / DIRECTORY)[3]


def test_training_goes_on_from_the_whole_checkpoint_before_a_damaged_one_to_the_same_bits(
    store: TokenStore, undisturbed: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = stopped(store, tmp_path)
    assert set(found) == {2, 3, 4}
    flip(found[4], found[4].stat().st_size // 2)  # among the weights
    continued = train(store, tmp_path, checkpoint=KEPT)
    continued.assert_equals(undisturbed)
    assert continued.steps == 3
    shown = capsys.readouterr().out
    assert f"{found[4]} cannot be read (it is damaged, or was not written by this version) and is removed" in shown
    assert "resumes after step 3 of 6" in shown


def test_damaged_rows_before_a_checkpoint_are_not_gone_on_from(
    store: TokenStore, undisturbed: Outcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = stopped(store, tmp_path)
    text = (tmp_path / METRICS).read_bytes()
    lines = text.splitlines(keepends=True)
    third = lines[2].replace(b'"loss": 0.', b'"loss": 1.')  # still a row
    assert third != lines[2]
    (tmp_path / METRICS).write_bytes(b"".join([*lines[:2], third, *lines[3:]]))
    rewind(tmp_path)
    assert set(checkpoints(tmp_path / DIRECTORY)) == {2}
    assert (tmp_path / METRICS).read_bytes() == b"".join(lines[:2])
    assert f"{found[3]} cannot be read ({METRICS} is damaged: " in capsys.readouterr().out
    train(store, tmp_path, checkpoint=KEPT).assert_equals(undisturbed)


def test_damaged_answers_before_a_checkpoint_are_not_gone_on_from(
    store: TokenStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / SAMPLES).write_text('{"step": 1, "samples": []}\n')
    stopped(store, tmp_path)
    rewind(tmp_path)
    assert set(checkpoints(tmp_path / DIRECTORY)) == {2, 3, 4}
    flip(tmp_path / SAMPLES, 9)
    rewind(tmp_path)
    assert not checkpoints(tmp_path / DIRECTORY)
    assert capsys.readouterr().out.count(f"{SAMPLES} is damaged: ") == 3
    assert not (tmp_path / SAMPLES).exists()


def test_rows_behind_the_newest_checkpoint_are_made_again(store: TokenStore, undisturbed: Outcome, tmp_path: Path) -> None:
    stopped(store, tmp_path)
    assert [row["step"] for row in rows_of(tmp_path)] == [1, 2, 3, 4, 5]
    flip(tmp_path / METRICS, (tmp_path / METRICS).stat().st_size - 30)
    rewind(tmp_path)
    assert [row["step"] for row in rows_of(tmp_path)] == [1, 2, 3, 4]
    train(store, tmp_path, checkpoint=KEPT).assert_equals(undisturbed)


def test_without_a_whole_checkpoint_rows_and_training_start_over(store: TokenStore, undisturbed: Outcome, tmp_path: Path) -> None:
    for path in stopped(store, tmp_path).values():
        flip(path, 1000)
    rewind(tmp_path)
    assert not (tmp_path / METRICS).exists()
    continued = train(store, tmp_path, checkpoint=KEPT)
    continued.assert_equals(undisturbed)
    assert continued.steps == 6


def test_rows_are_on_the_disk_before_the_checkpoint_that_follows_them(
    store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def flushed(path: Path) -> None:
        events.append(f"{path.name} with {path.read_bytes().count(b'step')} rows")
        flush_to_disk(path)

    def written(path: Path) -> Any:
        events.append(path.name)
        return sealed_file(path)

    monkeypatch.setattr(checkpoint_files, "flush_to_disk", flushed)
    monkeypatch.setattr(checkpoint_files, "sealed_file", written)
    stopped(store, tmp_path)
    assert events[:4] == [
        *(f"{METRICS} with 1 rows", "step_0000001.ckpt"),
        *(f"{METRICS} with 2 rows", "step_0000002.ckpt"),
    ]


@pytest.mark.parametrize("line", [b"{", b"[1]", b"3", b'{"loss": 1}', b'{"step": "2"}', b"\xff", b"", b"[" * 100_000])
def test_a_damaged_line_of_rows_is_one_line_on_the_screen_and_the_rows_from_it_on_are_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: bytes
) -> None:
    path = tmp_path / METRICS
    path.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3}\n')
    rows = MetricsFile(path)
    (shown,) = capsys.readouterr().out.splitlines()
    assert f"{path} is damaged: line 2 of 3 is not a row" in shown
    assert rows.rows() == [{"step": 1}]
    assert rows.write({"step": 2})
    assert [row["step"] for row in MetricsFile(path).rows()] == [1, 2]


def test_cutting_damaged_rows_leaves_a_copy_by_hard_links_as_it_was(tmp_path: Path) -> None:
    path, copy = tmp_path / METRICS, tmp_path / "copy.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    os.link(path, copy)
    MetricsFile(path).write({"step": 3})
    assert copy.read_text() == '{"step": 1}\n{"step": 2}\n{"st'


def test_a_small_sealed_file_gives_its_content_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sealed"
    with sealed_file(path) as file:
        file.write(b"content")
    assert read_sealed(path) == b"content"
    assert seal_holds(path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        flip(path, at)
        assert read_sealed(path) is None
        path.write_bytes(whole)
    path.write_bytes(b"content")
    assert read_sealed(path) is None
