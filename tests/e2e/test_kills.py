"""Real processes: stopped again and again in the middle and started anew, and two that want the same run at once."""

import os
import pty
import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

import pytest

from tests.e2e.forked import ROOT, Command, finished
from tests.e2e.results import assert_equal, figures

WORDS = ["debug=fast", "iteration.rounds=2", "trainer.max_steps=20"]
WORDS += ["callbacks.checkpoint.every=2", "trainer.batch_size=4", "trainer.token_budget=64"]  # steps of several passes
LISTS = ["debug=fast", "pairing=all_k", "loss=plackett_luce", "iteration.rounds=1", "sampler.num_samples=3"]
LISTS += ["trainer.max_steps=10", "callbacks.checkpoint.every=2", "trainer.batch_size=4"]
pytestmark = pytest.mark.slow


def start(outputs: Path, words: list[str] = WORDS) -> Command:
    return Command("train.py", *words, f"paths.outputs={outputs}")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, pretrained: Callable[..., Path]) -> Path:
    outputs = pretrained(tmp_path_factory.mktemp("undisturbed"), "debug=fast")
    finished(start(outputs))
    return outputs


def with_model_of(undisturbed: Path, outputs: Path) -> Path:
    """Let outputs begin with the base model of the undisturbed run, whose making is stopped in a test of its own."""
    shutil.copytree(undisturbed / "model", outputs / "model", dirs_exist_ok=True)
    return outputs


def stopped(outputs: Path, reached: str, number: int) -> Command:
    """Return a run that was sent a signal once it had a file or directory of this pattern that was not there before."""
    before = set(outputs.glob(reached))
    command = start(outputs)
    command.stop_when(lambda: set(outputs.glob(reached)) - before, number)
    return command


def test_a_run_that_is_stopped_in_three_parts_resumes_to_the_same_figures_weights_and_rows(
    undisturbed: Path, tmp_path: Path
) -> None:
    for kind, number, code in (("model", SIGKILL, -9), ("candidates", SIGKILL, -9), ("evaluation", SIGTERM, 75)):
        assert stopped(tmp_path, f"{kind}/tiny*", number).returncode == code
    finished(start(tmp_path))
    assert_equal(tmp_path, undisturbed)


def test_training_stopped_in_the_second_round_resumes_after_its_last_saved_step(undisturbed: Path, tmp_path: Path) -> None:
    outputs, resumed = with_model_of(undisturbed, tmp_path), "DPO round 2 resumes after step"
    for number, code in ((SIGKILL, -9), (SIGTERM, 75), (SIGINT, 130)):
        command = stopped(outputs, "policy/*round2*/checkpoints/step_*.ckpt", number)
        assert command.returncode == code
        assert (resumed in command.said()) == (number != SIGKILL), "there was nothing to resume the first time"
    assert resumed in finished(start(outputs))
    assert_equal(outputs, undisturbed)


def test_training_on_ranked_lists_that_is_killed_resumes_to_the_same_figures_weights_and_rows(
    undisturbed: Path, tmp_path: Path
) -> None:
    whole, killed = (with_model_of(undisturbed, tmp_path / name) for name in ("whole", "killed"))
    finished(start(whole, LISTS))
    command = start(killed, LISTS)
    command.stop_when(lambda: any((killed / "policy").glob("*/checkpoints/step_*.ckpt")))
    assert command.returncode == -9
    assert "round 1 resumes after step" in finished(start(killed, LISTS))
    assert_equal(killed, whole)


def test_a_run_whose_terminal_is_closed_saves_and_resumes(undisturbed: Path, tmp_path: Path) -> None:
    with_model_of(undisturbed, tmp_path)
    command = [sys.executable, str(ROOT / "train.py"), *WORDS, f"paths.outputs={tmp_path}"]
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, command, {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm"})
    threading.Thread(target=drain, args=(terminal,), daemon=True).start()
    while not any((tmp_path / "policy").glob("*round1*/checkpoints/step_*.ckpt")):
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "it ended before it could be stopped"
        time.sleep(0.01)
    os.close(terminal)  # the kernel sends SIGHUP; whatever is written from now on fails
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 75
    assert "DPO round 1 resumes after step" in finished(start(tmp_path))
    assert_equal(tmp_path, undisturbed)


def drain(terminal: int) -> None:
    """Read what a terminal shows, until it is closed."""
    with suppress(OSError):
        while os.read(terminal, 4096):
            pass


def test_two_that_want_the_same_run_make_it_once_and_both_show_it(undisturbed: Path, tmp_path: Path) -> None:
    shown = [finished(command) for command in [start(tmp_path) for _ in range(2)]]
    assert figures(tmp_path) == figures(undisturbed)
    assert sorted("this run was finished before" in text for text in shown) == [False, True]
    assert all("held-out films (40 prompts)" in text for text in shown)
