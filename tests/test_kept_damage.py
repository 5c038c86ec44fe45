"""What unfinished parts keep is believed line by line and file by file: a changed bit costs its own work again, nothing else."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_lab.continuing import KEPT, kept_part
from dpo_lab.reference.parts import Parts
from dpo_lab.tokens.store import TokenStore

BATCHES = ([4, 0], [1], [2, 3, 5])


def results(directory: Path, made: list[int]) -> list[Any]:
    def make(batch: list[int]) -> list[float]:
        made.extend(batch)
        return [row / 3 for row in batch]

    with kept_part("part", 6, directory) as keep:
        return [keep(batch, partial(make, batch)) for batch in BATCHES]


def test_one_bit_anywhere_in_what_a_part_kept_changes_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 0.0)  # the seconds stand in the file
    wanted = results(tmp_path, [])
    (file,) = (tmp_path / KEPT).iterdir()
    whole = file.read_bytes()
    ends = [at for at, byte in enumerate(whole) if byte == ord("\n")]
    for at in range(len(whole)):
        for bit in (1, 16):
            data = bytearray(whole)
            data[at] ^= bit
            file.write_bytes(data)
            made: list[int] = []
            capsys.readouterr()
            assert results(tmp_path, made) == wanted
            kept = sum(end < at for end in ends)
            assert made == [row for batch in BATCHES[kept:] for row in batch]
            assert file.read_bytes() == whole
            said = capsys.readouterr().out
            assert (f"{file} is damaged from line {kept + 1} on" in said) == (at != ends[-1])


def test_one_bit_anywhere_in_a_part_of_a_reference_pass_scores_its_responses_again(
    store: TokenStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = torch.from_numpy(store.response_lengths)
    parts = Parts(tmp_path, store)
    for batch in ([0, 1], [2, 3]):
        parts.add(torch.tensor(batch), torch.randn(int(counts[batch].sum())))
    assert Parts(tmp_path, store).known.tolist()[:5] == [True] * 4 + [False]
    path = tmp_path / "000000000.safetensors"
    whole = path.read_bytes()
    for at in range(0, len(whole), 3):
        data = bytearray(whole)
        data[at] ^= 1
        path.write_bytes(data)
        read = Parts(tmp_path, store)
        assert read.known.tolist()[:5] == [False, False, True, True, False]
        assert read.per_token.nan_to_num().count_nonzero() == int(counts[[2, 3]].sum())
        assert f"{path} is damaged and is removed" in capsys.readouterr().out
        assert not path.exists()


def test_a_line_of_an_earlier_version_is_made_again(tmp_path: Path) -> None:
    wanted = results(tmp_path, [])
    (file,) = (tmp_path / KEPT).iterdir()
    file.write_text(json.dumps([[4, 0], [9.0, 9.0]]) + "\n")
    assert results(tmp_path, []) == wanted
