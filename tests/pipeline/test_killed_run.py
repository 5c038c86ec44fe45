"""A run that was killed in a round, and whose rows were damaged then: the same command ends with those of an undisturbed one."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.run_directory import METRICS
from dpo_lab.stages.train import Train
from dpo_lab.training.callbacks import Checkpoint
from tests.small_stage import given, pairs_file
from tests.training.stopping import KillAfter, Killed

CLOCKS = ("time/", "seconds", "throughput", "memory")


def run_in(outputs: Path, pairs: Path, **callbacks: Any) -> Train:
    outputs.mkdir(exist_ok=True)
    return given(outputs, pairs, callbacks={"checkpoint": Checkpoint(every=2), **callbacks})


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in row.items() if not name.startswith(CLOCKS)} for row in rows]


def rows_below(outputs: Path) -> dict[str, list[dict[str, Any]]]:
    return {path.parent.parent.name: rows_of(path) for path in sorted(outputs.glob(f"*/*/{METRICS}"))}


def test_rows_that_no_checkpoint_covers_are_made_again_in_the_policy_and_in_the_run(tmp_path: Path) -> None:
    pairs = pairs_file(tmp_path)
    run_in(tmp_path / "whole", pairs).run()
    whole = rows_below(tmp_path / "whole")
    outputs = tmp_path / "killed"
    with pytest.raises(Killed):
        run_in(outputs, pairs, kill=KillAfter(step=3)).run()
    for kind, rows in rows_below(outputs).items():
        assert rows == whole[kind][:3]
        (path,) = outputs.glob(f"{kind}/*/{METRICS}")
        *first, last = path.read_text().splitlines()
        damaged = {**json.loads(last), "loss": 7.0, "kind": kind}  # still a row, of a step that the checkpoint after 2 has not
        path.write_text("\n".join([*first, json.dumps(damaged), ""]))
    run_in(outputs, pairs).run()
    assert rows_below(outputs) == whole
    assert sorted(whole) == ["policy", "train"]
