"""The health of whole runs: what goes wrong is said meanwhile, at the end, in every file, and to loggers that warn."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.components import component
from dpo_lab.loggers.base import Follower, Mark, Row, RunIdentity, RunLogger
from dpo_lab.run_directory import RunDirectory
from dpo_lab.training.optim import AdamW
from dpo_lab.training.settings import TrainerSettings
from tests.small_stage import given, pairs_file

LONG = TrainerSettings(accelerator="cpu", batch_size=8, token_budget=256, epochs=5)  # fifteen steps
WARNED: list[tuple[str, str]] = []


class Listening(Follower):
    """Keeps the warnings."""

    def send(self, row: Row) -> None: ...

    def summarise(self, summary: Row, samples: Sequence[Row]) -> None: ...

    def warn(self, title: str, text: str) -> None:
        WARNED.append((title, text))

    def close(self, *, failed: bool) -> None: ...


@component
class Listener(RunLogger):
    """A logger that is warned."""

    def open(self, run: RunIdentity, mark: Mark) -> Follower:
        return Listening()


@pytest.fixture(scope="module")
def stuck(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("stuck")
    WARNED.clear()
    run = given(root, pairs_file(root), optim=AdamW(lr=1e-9), trainer=LONG, logger={"listener": Listener()})
    run.run()
    return run


def test_it_is_said_at_the_step_at_the_end_and_in_the_verdict(stuck: Any) -> None:
    screen = RunDirectory(stuck.plan().path).screen()
    assert "  step 10: stuck at start: the loss stays at its start, .69, for all 10 rows: nothing is learned; try a" in screen
    assert "\nhealth\n  stuck at start: the loss stays at its start, .69, for all 15 rows: nothing is\n" in screen
    assert " But the loss stays at its start, .69, for all 15 rows: nothing is learned: try a higher optim.lr; if" in screen
    assert all(len(line) <= 80 for line in screen.split("\nhealth\n")[1].splitlines()[:4])


def test_it_stands_in_the_summary_in_run_json_and_in_the_report(stuck: Any) -> None:
    run = RunDirectory(stuck.plan().path)
    assert {name: value for name, value in run.summary().items() if name.startswith("health/")} == {
        "health/findings": 1,
        "health/stuck_at_start": 1,
    }
    (finding,) = run.run()["findings"]
    assert (finding["name"], finding["round"]) == ("stuck_at_start", 1)
    report = run.text("report.html")
    assert '<h2 id="health">Health</h2>' in report
    assert "stuck at start in round 1" in report


def test_loggers_are_warned_once(stuck: Any) -> None:
    ((title, text),) = WARNED
    assert title == "stuck at start in round 1"
    assert text.startswith("the loss stays at its start, .69, for all 10 rows")
    WARNED.clear()
    stuck.run()
    assert WARNED == [], "a finished run that is asked for again warns nobody again"


def test_a_run_that_learns_has_no_finding(tmp_path: Path) -> None:
    run = given(tmp_path, pairs_file(tmp_path), optim=AdamW(lr=3e-4), trainer=LONG)
    run.run()
    directory = RunDirectory(run.plan().path)
    assert directory.summary()["health/findings"] == 0
    assert json.loads(directory.text("run.json"))["findings"] == []
    assert "health" not in directory.screen()
    assert '<h2 id="health">' not in directory.text("report.html")
