"""How the command line ends when it is stopped: by signals, by a terminal or a pipe that is gone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_lab.cli.main import main
from dpo_lab.cli.messages import stop_message
from dpo_lab.stages.train import Train

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # the program sets it too; this puts it back afterwards


@pytest.mark.parametrize(
    ("number", "code", "how"),
    [
        (signal.SIGINT, 130, "Ctrl-C"),
        (signal.SIGTERM, 75, "SIGTERM"),
        (signal.SIGHUP, 75, "SIGHUP, since its terminal was closed"),
    ],
)
def test_a_stopped_run_says_what_is_kept_and_how_to_go_on(
    number: int, code: int, how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr(Train, "run", lambda stage: os.kill(os.getpid(), number))
    assert main(["train", "paths.outputs=there"]) == code
    assert capsys.readouterr().err == (f"\nstopped by {how}. No part was finished yet; run the same command again to start.\n")
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("place", ["checkpoints/step_0000540.ckpt", "kept/sample.jsonl"])
def test_a_stop_says_that_the_first_part_is_saved_half_done(tmp_path: Path, place: str) -> None:
    assert stop_message("SIGTERM", str(tmp_path)).endswith("No part was finished yet; run the same command again to start.")
    saved = tmp_path / "model" / "tiny-films-0a5ffaaf" / place
    saved.parent.mkdir(parents=True)
    saved.touch()
    said = stop_message("SIGTERM", str(tmp_path))
    assert said.endswith("the one under way is saved; run the same command again to continue.")


def test_a_hang_up_that_is_ignored_as_under_nohup_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(Train, "run", lambda stage: os.kill(os.getpid(), signal.SIGHUP))
        assert main(["train", "paths.outputs=there"]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_output_that_nobody_reads_ends_the_run_with_a_reason(tmp_path: Path) -> None:
    code = (
        "import sys; from dpo_lab.cli import main as cli; from dpo_lab.progress import console; "
        "from dpo_lab.stages.train import Train; Train.run = lambda stage: [console.print('a line') for _ in range(100000)]; "
        "sys.exit(cli.main(['train']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    )
    os.close(writer)
    assert ended.returncode == 1
    assert ended.stderr == (
        "error: stdout was closed by what reads it (a pipe such as `| head`); stopped by that. No part was finished yet; "
        "run the same command again to start.\n"
    )
