"""The seconds of an artifact are those of all processes that made it, the lost work of a kill not among them."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.continuing import KEPT, _sealed, kept_part, remove_kept

BATCHES = ([4, 0], [1], [2, 3, 5])


def made(root: Path, clock: list[float], die_at: int | None = None, *, resume: bool = True) -> Artifact:
    """Make an artifact of three batches in one process: 5 s before the first, 10 s for each, dying in the middle of one."""

    def slowly(batch: list[int]) -> list[int]:
        clock[0] += 10
        if die_at is not None and batch == BATCHES[die_at]:
            raise KeyboardInterrupt
        return batch

    def produce(directory: Path) -> dict[str, Any]:
        clock[0] += 5
        with kept_part("part", 6, directory) as keep:
            rows = [row for batch in BATCHES for row in keep(batch, partial(slowly, batch))]
        remove_kept(directory)
        return {"rows": rows}

    return Plan(root, "kind", "name", {}).make(produce, resume=resume)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    at = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: at[0])
    return at


def test_the_seconds_of_a_resumed_artifact_are_those_of_all_processes(tmp_path: Path, clock: list[float]) -> None:
    assert made(tmp_path / "whole", clock).seconds == 5 + 3 * 10
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "cut", clock, die_at=1)  # the first batch is kept
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "cut", clock, die_at=2)  # the second too
    clock[0] += 1000  # nobody works
    resumed = made(tmp_path / "cut", clock)
    assert resumed.seconds == 3 * 10 + 5  # and the last process's own start
    assert resumed.facts == {"rows": [4, 0, 1, 2, 3, 5]}


def test_a_line_that_a_kill_cut_has_no_seconds(tmp_path: Path, clock: list[float]) -> None:
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, clock, die_at=1)
    (kept,) = tmp_path.glob(f"kind/*/{KEPT}/part.jsonl")
    with kept.open("ab") as file:
        file.write(b'0123456789abcdef [[1], [1], {"seconds": 5000.0}]')
    assert made(tmp_path, clock).seconds == 3 * 10 + 5


def test_lines_of_an_earlier_version_have_no_seconds(tmp_path: Path, clock: list[float]) -> None:
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, clock, die_at=2)
    (kept,) = tmp_path.glob(f"kind/*/{KEPT}/part.jsonl")
    lines = [json.loads(line[17:])[:2] for line in kept.read_bytes().splitlines()]
    kept.write_bytes(b"".join(_sealed(json.dumps(line).encode()) for line in lines))
    assert made(tmp_path, clock).seconds == 10 + 5


def test_what_is_not_resumed_counts_its_own_seconds_alone(tmp_path: Path, clock: list[float]) -> None:
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, clock, die_at=2)
    assert made(tmp_path, clock, resume=False).seconds == 3 * 10 + 5
