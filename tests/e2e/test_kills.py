"""Real processes: killed in the middle and started again, and two that want the same run at once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, str(ROOT / "train.py"), "debug=fast", "iteration.rounds=2"]
pytestmark = pytest.mark.slow


def start(outputs: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # equal bits need an equal number of threads
    words = [*COMMAND, f"paths.outputs={outputs}"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return out


def figures(outputs: Path) -> dict[str, Any]:
    (path,) = (outputs / "train").glob("*/summary.json")
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {name: value for name, value in summary.items() if not name.startswith("seconds")}


def weights(outputs: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted((outputs / "policy").glob("*/model.safetensors"))}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("undisturbed")
    finish(start(outputs))
    return outputs


@pytest.mark.parametrize(
    ("kind", "number", "code"),
    [
        ("model", signal.SIGKILL, -9),
        ("candidates", signal.SIGKILL, -9),
        ("policy", signal.SIGKILL, -9),
        ("policy", signal.SIGTERM, 75),
    ],
)
def test_a_killed_run_goes_on_to_the_same_figures_and_weights(
    undisturbed: Path, tmp_path: Path, kind: str, number: signal.Signals, code: int
) -> None:
    process = start(tmp_path)
    deadline = time.monotonic() + 200
    while not any((tmp_path / kind).glob("tiny*")) and time.monotonic() < deadline:  # the part has begun
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=100)
    assert process.returncode == code
    finish(start(tmp_path))
    assert figures(tmp_path) == figures(undisturbed)
    assert weights(tmp_path) == weights(undisturbed)


def test_two_that_want_the_same_run_make_it_once_and_both_show_it(undisturbed: Path, tmp_path: Path) -> None:
    processes = [start(tmp_path) for _ in range(2)]
    shown = [finish(process) for process in processes]
    assert figures(tmp_path) == figures(undisturbed)
    assert sorted("this run was finished before" in text for text in shown) == [False, True]
    assert all("held-out films (40 prompts)" in text for text in shown)
