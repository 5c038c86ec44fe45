"""The record of a run is its file; loggers follow it, across processes, and never harm it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dpo_lab.components import component
from dpo_lab.loggers.base import Follower, LocalLogger, Mark, Row, RunIdentity, RunLogger
from dpo_lab.loggers.metrics_file import MetricsFile
from dpo_lab.loggers.recorder import EVERY_SECONDS, STATE, Recorder, read_state, send_recorded
from dpo_lab.run_directory import LOGGERS, METRICS


@dataclass
class Heard(Follower):
    """Keeps what it is sent."""

    mark: Mark
    steps: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    summary: Row | None = None
    samples: Sequence[Row] = ()
    closed: list[bool] = field(default_factory=list)
    breaks_at: int = 0
    settle_seconds: float = 0.0

    def send(self, row: Row) -> None:
        if row["step"] == self.breaks_at:
            raise OSError("the line is dead")
        self.steps.append(row["step"])
        self.rows.append(row)

    def summarise(self, summary: Row, samples: Sequence[Row]) -> None:
        self.summary, self.samples = summary, samples

    def close(self, *, failed: bool) -> None:
        self.closed.append(failed)


@component
class Memory(RunLogger):
    """Opens followers that the tests can look at."""

    to: str = "here"
    breaks_at: int = 0
    settle_seconds: float = 0.0
    opened: ClassVar[list[Heard]] = []

    def destination(self) -> str:
        return self.to

    def open(self, run: RunIdentity, mark: Mark) -> Follower:
        self.opened.append(Heard(mark, breaks_at=self.breaks_at, settle_seconds=self.settle_seconds))
        return self.opened[-1]


@component
class Closed(RunLogger):
    """Cannot be opened."""

    def open(self, run: RunIdentity, mark: Mark) -> Follower:
        raise OSError("no route to the server")


@pytest.fixture(autouse=True)
def _nothing_opened() -> None:
    Memory.opened.clear()


def identity(directory: Path) -> RunIdentity:
    return RunIdentity(name="tiny", id="ab" * 32, directory=directory, config={})


def recorder(directory: Path, **loggers: RunLogger) -> Recorder:
    return Recorder(identity(directory), loggers, MetricsFile(directory / METRICS))


def rows(*steps: int) -> list[dict[str, Any]]:
    return [{"step": step, "round": 1, "loss": 1 / step} for step in steps]


def stopped(record: Recorder, told: list[dict[str, Any]], stop: type[BaseException]) -> None:
    """Tell rows and the summary, then stop as an error or a signal does."""
    with record:
        for row in told:
            record.tell(row)
        record.finish({})
        raise stop


def state(directory: Path, key: str = "memory") -> dict[str, Any]:
    return dict(json.loads((directory / LOGGERS / key / STATE).read_text()))


def test_a_row_goes_to_the_file_and_to_every_logger(tmp_path: Path) -> None:
    with recorder(tmp_path, one=Memory(), other=Memory()) as record:
        for row in rows(1, 2):
            record.tell(row)
        record.finish({"gold/after": 0.9, "note": "few pairs"}, [{"prompt": "p"}])
    assert MetricsFile(tmp_path / METRICS).rows() == rows(1, 2)
    for heard in Memory.opened:
        assert (heard.rows, heard.summary, heard.samples) == (rows(1, 2), {"gold/after": 0.9}, [{"prompt": "p"}])
        assert heard.closed == [False]


def test_a_row_whose_step_is_recorded_is_neither_written_nor_sent_again(tmp_path: Path) -> None:
    with recorder(tmp_path, memory=Memory()) as record:
        for row in rows(1, 2, 2, 1, 3):
            record.tell(row)
    assert [row["step"] for row in MetricsFile(tmp_path / METRICS).rows()] == [1, 2, 3] == Memory.opened[0].steps


def test_a_run_that_goes_on_sends_new_rows_only(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        stopped(recorder(tmp_path, memory=Memory()), rows(1, 2), RuntimeError)
    with recorder(tmp_path, memory=Memory()) as record:
        for row in rows(1, 2, 3):
            record.tell(row)
    first, second = Memory.opened
    assert (first.steps, second.steps) == ([1, 2], [3])
    assert (second.mark.sent, second.mark.token) == (2, first.mark.token)


def test_a_logger_that_joins_later_gets_the_rows_from_the_first(tmp_path: Path) -> None:
    with recorder(tmp_path) as record:
        record.tell(rows(1)[0])
    with recorder(tmp_path, memory=Memory()) as record:
        record.tell(rows(2)[0])
    assert Memory.opened[0].rows == rows(1, 2)


def test_after_a_kill_the_rows_that_may_be_lost_are_sent_again_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    record = recorder(tmp_path, memory=Memory(settle_seconds=2.0)).__enter__()
    for row in rows(1, 2, 3, 4):
        clock += EVERY_SECONDS
        record.tell(row)
    # killed here, at second 4: what was sent at second 2 or before is there
    assert state(tmp_path)["sent"] == 2
    with recorder(tmp_path, memory=Memory(settle_seconds=2.0)):
        pass
    assert Memory.opened[1].steps == [3, 4]
    assert state(tmp_path)["sent"] == 4


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_every_follower_is_closed_as_failed_whatever_stops_the_run(tmp_path: Path, stop: type[BaseException]) -> None:
    with pytest.raises(stop):
        stopped(recorder(tmp_path, one=Memory(), other=Memory()), rows(1), stop)
    assert [heard.closed for heard in Memory.opened] == [[True], [True]]
    assert not state(tmp_path, "one")["finished"]


def test_a_logger_that_breaks_is_told_of_and_the_run_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with recorder(tmp_path, broken=Memory(breaks_at=2), whole=Memory()) as record:
        for row in rows(1, 2, 3):
            record.tell(row)
        record.finish({})
    broken, whole = Memory.opened
    assert (broken.steps, whole.steps, broken.closed) == ([1], [1, 2, 3], [False])
    assert "logger.broken stopped (OSError: the line is dead)" in capsys.readouterr().out
    assert (state(tmp_path, "broken")["finished"], state(tmp_path, "whole")["finished"]) == (False, True)
    assert send_recorded(identity(tmp_path), {"broken": Memory(), "whole": Memory()}, {}) == ["broken"]
    assert Memory.opened[2].steps == [2, 3]


def test_a_logger_that_cannot_be_reached_does_not_stop_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with recorder(tmp_path, away=Closed(), memory=Memory()) as record:
        record.tell(rows(1)[0])
    assert Memory.opened[0].steps == [1]
    assert "no route to the server" in capsys.readouterr().out


def test_a_finished_run_is_sent_once_to_each_logger_and_destination(tmp_path: Path) -> None:
    with recorder(tmp_path, local=LocalLogger()) as record:
        for row in rows(1, 2):
            record.tell(row)
    run, summary = identity(tmp_path), {"gold/after": 0.9}
    assert send_recorded(run, {"local": LocalLogger()}, summary) == []
    assert not (tmp_path / LOGGERS).exists()
    loggers = {"local": LocalLogger(), "memory": Memory()}
    assert send_recorded(run, loggers, summary) == ["memory"]
    assert send_recorded(run, loggers, summary) == []
    assert send_recorded(run, {"memory": Memory(to="elsewhere")}, summary) == ["memory"]
    assert [(heard.rows, heard.summary) for heard in Memory.opened] == [(rows(1, 2), summary)] * 2


def test_what_is_sent_later_equals_what_is_sent_live(tmp_path: Path) -> None:
    told = [{"step": 1, "loss": float("inf"), "lr": 0.1 + 0.2}, {"step": 2, "loss": 1e-300, "lr": float("nan")}]
    with recorder(tmp_path, live=Memory()) as record:
        for row in told:
            record.tell(row)
        record.finish({"kl": 1 / 3})
    send_recorded(identity(tmp_path), {"later": Memory()}, {"kl": 1 / 3})
    live, later = Memory.opened
    assert live.rows == later.rows == [{"step": 1, "lr": 0.1 + 0.2}, {"step": 2, "loss": 1e-300}]
    assert live.summary == later.summary


def test_a_run_that_starts_over_is_another_one_for_its_loggers(tmp_path: Path) -> None:
    for number in (1, 2):
        with recorder(tmp_path / str(number), memory=Memory()):
            pass
    assert Memory.opened[0].mark.token != Memory.opened[1].mark.token


def test_a_line_torn_by_a_kill_is_cut_off_and_its_row_written_again(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    file = MetricsFile(path)
    for row in rows(1, 2):
        assert file.write(row)
    path.write_bytes(path.read_bytes()[:-5])
    again = MetricsFile(path)
    assert (again.last_step, again.rows()) == (1, rows(1))
    assert again.write(rows(2)[0])
    assert not again.write(rows(2)[0])
    assert MetricsFile(path).rows() == rows(1, 2)


def test_numbers_that_are_not_finite_are_null_in_the_file(tmp_path: Path) -> None:
    MetricsFile(tmp_path / METRICS).write({"step": 1, "loss": float("nan"), "grad_norm": float("inf")})
    assert (tmp_path / METRICS).read_text() == '{"step": 1, "loss": null, "grad_norm": null}\n'


def test_a_damaged_state_is_said_and_every_row_is_sent_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with recorder(tmp_path, memory=Memory()) as record:
        for row in rows(1, 2, 3):
            record.tell(row)
    path = tmp_path / LOGGERS / "memory" / STATE
    assert read_state(identity(tmp_path), "memory", Memory()).sent == 3
    whole = path.read_text()
    for text in (whole.replace('"sent": 3', '"sent": 7'), "[]", "{}", "", "null", "\x00"):
        path.write_text(text)
        assert read_state(identity(tmp_path), "memory", Memory()).sent == 0
        assert f"{path} is damaged: logger.memory gets every row again" in capsys.readouterr().out
