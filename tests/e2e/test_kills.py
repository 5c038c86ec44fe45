"""Real processes: killed in the middle and started again, and two that want the same run at once."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, str(ROOT / "train.py"), "debug=fast", "iteration.rounds=2", "trainer.max_steps=20"]
COMMAND += ["callbacks.checkpoint.every=2", "trainer.batch_size=4", "trainer.token_budget=64"]  # steps of several passes
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


def rows(outputs: Path) -> list[dict[str, Any]]:
    (path,) = (outputs / "train").glob("*/metrics.jsonl")
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in row.items() if not name.startswith(("time/", "memory/"))} for row in found]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.01)


def assert_same(one: Path, other: Path) -> None:
    assert figures(one) == figures(other)
    assert weights(one) == weights(other) != {}
    assert rows(one) == rows(other) != []


@pytest.mark.parametrize(
    ("kind", "number", "code"),
    [("model", signal.SIGKILL, -9), ("candidates", signal.SIGKILL, -9), ("evaluation", signal.SIGTERM, 75)],
)
def test_a_run_that_is_killed_in_a_part_goes_on_to_the_same_figures_weights_and_rows(
    undisturbed: Path, tmp_path: Path, kind: str, number: signal.Signals, code: int
) -> None:
    process = start(tmp_path)
    wait_for(lambda: any((tmp_path / kind).glob("tiny*")), process)  # the part has begun
    process.send_signal(number)
    process.communicate(timeout=100)
    assert process.returncode == code
    finish(start(tmp_path))
    assert_same(tmp_path, undisturbed)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_training_that_is_stopped_in_the_second_round_goes_on_after_its_last_saved_step(
    undisturbed: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = start(tmp_path)
    wait_for(lambda: any((tmp_path / "policy").glob("*round2*/checkpoints/step_*.ckpt")), process)
    process.send_signal(number)
    process.communicate(timeout=100)
    assert process.returncode == code
    assert "DPO round 2 resumes after step" in finish(start(tmp_path))
    assert_same(tmp_path, undisturbed)


def test_a_run_whose_terminal_is_closed_saves_and_resumes(undisturbed: Path, tmp_path: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execve(
            sys.executable, [*COMMAND, f"paths.outputs={tmp_path}"], {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm"}
        )
    threading.Thread(target=drain, args=(terminal,), daemon=True).start()
    while not any((tmp_path / "policy").glob("*round1*/checkpoints/step_*.ckpt")):
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "it ended before it could be stopped"
        time.sleep(0.01)
    os.close(terminal)  # the kernel sends SIGHUP; whatever is written from now on fails
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 75
    assert "DPO round 1 resumes after step" in finish(start(tmp_path))
    assert_same(tmp_path, undisturbed)


def drain(terminal: int) -> None:
    """Read what a terminal shows, until it is closed."""
    with suppress(OSError):
        while os.read(terminal, 4096):
            pass


def test_two_that_want_the_same_run_make_it_once_and_both_show_it(undisturbed: Path, tmp_path: Path) -> None:
    processes = [start(tmp_path) for _ in range(2)]
    shown = [finish(process) for process in processes]
    assert figures(tmp_path) == figures(undisturbed)
    assert sorted("this run was finished before" in text for text in shown) == [False, True]
    assert all("held-out films (40 prompts)" in text for text in shown)
