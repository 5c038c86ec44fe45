"""A real process that trains on ranked lists is killed in the middle, started again, and ends as one that was not."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, str(ROOT / "train.py"), "debug=fast", "pairing=all_k", "loss=plackett_luce", "iteration.rounds=1"]
COMMAND += ["sampler.num_samples=3", "trainer.max_steps=10", "callbacks.checkpoint.every=2", "trainer.batch_size=4"]
CLOCKS = ("time/", "memory/", "seconds")


def start(outputs: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # equal bits need an equal number of threads
    words = [*COMMAND, f"paths.outputs={outputs}"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return out


def left(outputs: Path) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return the rows of a run without its clocks, and its policy's weights."""
    (path,) = (outputs / "train").glob("*/metrics.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    weights = [path.read_bytes() for path in sorted((outputs / "policy").glob("*/model.safetensors"))]
    return [{name: value for name, value in row.items() if not name.startswith(CLOCKS)} for row in rows], weights


@pytest.mark.slow
def test_training_on_ranked_lists_that_is_killed_resumes_to_the_same_rows_and_weights(tmp_path: Path) -> None:
    finish(start(tmp_path / "whole"))
    rows, weights = left(tmp_path / "whole")
    assert len(rows) >= 10
    assert len(weights) == 1
    killed = tmp_path / "killed"
    process = start(killed)
    while not any((killed / "policy").glob("*/checkpoints/step_*.ckpt")):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=100)
    assert process.returncode == -9
    assert "round 1 resumes after step" in finish(start(killed))
    assert left(killed) == (rows, weights)
