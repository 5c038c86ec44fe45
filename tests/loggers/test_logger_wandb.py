"""What W&B's own reader finds in the offline files: one run per run, its rows, and nothing that was not asked for."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from wandb.util import get_core_path

from dpo_lab.components import ConfigError
from dpo_lab.loggers.base import RunIdentity
from dpo_lab.loggers.metrics_file import MetricsFile
from dpo_lab.loggers.recorder import Recorder, send_recorded
from dpo_lab.loggers.wandb_run import WandbLogger, WandbRun, quiet_settings
from dpo_lab.run_directory import METRICS

SUMMARY = {"gold/after": 0.75, "eval/pairs": 40}
SAMPLES = [{"prompt": "Write a review of The Silent Mirror.", "after": "It left me speechless."}]
SECRET = b"speechless"
CHILD = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_logger_wandb import recorder, rows, wandb_file
from dpo_lab.loggers.wandb_run import WandbLogger

directory = Path({directory!r})
with recorder(directory, WandbLogger(mode="offline")) as record:
    for row in rows(1, 2, 3, 4):
        record.tell(row)
    record.tell({{**rows(5)[0], "last_before_the_flush": 1}})
    while b"last_before_the_flush" not in wandb_file(directory).read_bytes():
        time.sleep(0.05)
    record.tell(rows(6)[0])
    os.kill(os.getpid(), signal.SIGKILL)
"""

AGENT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_logger_wandb import recorder, rows
from dpo_lab.loggers.wandb_run import WandbLogger

with recorder(Path({directory!r}), WandbLogger(mode="offline")) as record:
    record.tell(rows(1)[0])
"""


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def identity(directory: Path, **facts: Any) -> RunIdentity:
    directory.mkdir(exist_ok=True)
    return RunIdentity(name=directory.name, id="ab" * 32, directory=directory, config={"loss": {"beta": 0.1}}, **facts)


def recorder(directory: Path, logger: WandbLogger, **facts: Any) -> Recorder:
    return Recorder(identity(directory, **facts), {"wandb": logger}, MetricsFile(directory / METRICS))


def rows(*steps: int) -> list[dict[str, Any]]:
    return [{"step": step, "round": 1, "loss": 1 / step, "rewards/margins": step / 7} for step in steps]


def wandb_file(directory: Path, process: int = 0) -> Path:
    return sorted(directory.glob("loggers/wandb/wandb/offline-run-*/*.wandb"))[process]


def records(directory: Path, process: int = 0) -> list[dict[str, Any]]:
    """Return the records of the W&B files that a process (the first, the second, ...) wrote for a run."""
    return inspected(wandb_file(directory, process))


@cache
def inspected(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file, as `wandb leet inspect --json` prints them; its program alone, without a Python for it."""
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", "--run-file", str(path), str(path.parents[1])]
    return [json.loads(line) for line in output_of(command).splitlines()]


def output_of(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def of_kind(kind: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record[kind] for record in found if record["type"] == kind]


def history(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the logged rows without W&B's own figures; each stands at its own step."""
    items = [record["item"] for record in of_kind("history", found)]
    assert all(item["_step"] == item["step"] for item in items)
    return [{name: value for name, value in item.items() if not name.startswith("_")} for item in items]


def final_summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for record in of_kind("summary", found):
        merged |= record["update"]
    return merged


def test_two_runs_of_one_process_do_not_mix_even_when_both_are_open(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one, other = tmp_path / "tiny-dpo", tmp_path / "tiny-ipo"
    logger = WandbLogger(project="films")
    facts: dict[str, Any] = {"tags": ("first", "x" * 100), "notes": "why not", "group": "sweep-beta-" + "b" * 130 + "-3f9c2a10"}
    with recorder(one, logger, **facts) as first, recorder(other, logger, label="beta0.1-seed0") as second:
        for step in (1, 2, 3):
            first.tell(rows(step)[0])
            second.tell(rows(step + 10)[0])
        first.finish(SUMMARY, SAMPLES)
        second.finish({})
    found = records(one)
    (run,) = of_kind("run", found)
    assert (run["display_name"], run["project"], run["notes"]) == ("tiny-dpo", "films", "why not")
    assert run["tags"] == ["first", "x" * 64]
    assert run["run_group"].startswith("sweep-beta-")
    assert run["run_group"].endswith("-3f9c2a10")
    assert run["config"]["update"]["loss"] == {"beta": 0.1}
    assert history(found) == MetricsFile(one / METRICS).rows() == rows(1, 2, 3)
    summary = final_summary(found)
    assert {name: summary[name] for name in SUMMARY} == SUMMARY
    assert summary["loss"] == {"last": 1 / 3, "min": 1 / 3}
    assert summary["rewards/margins"] == {"last": 3 / 7, "max": 3 / 7}
    assert of_kind("exit", found)[0]["exit_code"] == 0
    assert history(records(other)) == rows(11, 12, 13)
    (of_a_sweep,) = of_kind("run", records(other))
    assert of_a_sweep["run_id"] != run["run_id"]
    assert of_a_sweep["display_name"] == "beta0.1-seed0-abababab"
    assert not any(SECRET in path.read_bytes() for path in one.rglob("*") if path.is_file()), "text that nobody asked for"
    printed = capfd.readouterr()
    assert printed.err == ""
    assert printed.out.splitlines() == [
        f"  W&B: offline; to send this run later: wandb sync {each}/loggers/wandb/wandb/offline-run-*" for each in (one, other)
    ]


def stopped(record: Recorder, told: list[dict[str, Any]]) -> None:
    with record:
        for row in told:
            record.tell(row)
        raise KeyboardInterrupt


def test_a_run_that_goes_on_has_the_same_id_and_new_rows_only(tmp_path: Path) -> None:
    directory, logger = tmp_path / "tiny", WandbLogger(mode="offline")
    with pytest.raises(KeyboardInterrupt):
        stopped(recorder(directory, logger), rows(1, 2))
    with recorder(directory, logger) as record:
        for row in rows(1, 2, 3, 4):
            record.tell(row)
    first, second = records(directory, 0), records(directory, 1)
    runs = [of_kind("run", found)[0] for found in (first, second)]
    assert runs[0]["run_id"] == runs[1]["run_id"]
    assert all(run["resume"] for run in runs), "else the server would refuse or replace the id"
    assert (history(first), history(second)) == (rows(1, 2), rows(3, 4))
    assert [of_kind("exit", found)[0]["exit_code"] for found in (first, second)] == [1, 0]


def test_a_kill_loses_no_row_that_was_flushed_and_the_next_process_sends_the_rest(tmp_path: Path) -> None:
    run = tmp_path / "tiny"
    code = CHILD.format(tests=str(Path(__file__).parent), directory=str(run))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert killed.returncode == -9, killed.stderr
    assert [row["step"] for row in MetricsFile(run / METRICS).rows()] == [1, 2, 3, 4, 5, 6]
    found = records(run)
    assert [row["step"] for row in history(found)][:5] == [1, 2, 3, 4, 5]
    assert of_kind("exit", found) == []
    with recorder(run, WandbLogger(mode="offline")) as record:
        record.tell(rows(7)[0])
    both = [*history(found), *history(records(run, 1))]
    by_step = {row["step"]: row for row in both}
    assert all(by_step[row["step"]] == row for row in both), "what is sent again is equal"
    assert [by_step[step] for step in sorted(by_step)] == MetricsFile(run / METRICS).rows()


def test_a_finished_run_sent_later_equals_one_sent_live_and_text_goes_only_if_asked(tmp_path: Path) -> None:
    live, later = tmp_path / "live", tmp_path / "later"
    told = [*rows(1, 2), {**rows(3)[0], "loss": float("nan")}]
    for directory, loggers in ((live, {"wandb": WandbLogger(mode="offline")}), (later, {})):
        with Recorder(identity(directory), loggers, MetricsFile(directory / METRICS)) as record:
            for row in told:
                record.tell(row)
            record.finish(SUMMARY)
    asked = WandbLogger(mode="offline", samples=True)
    assert send_recorded(identity(later), {"wandb": asked}, SUMMARY, SAMPLES) == ["wandb"]
    assert send_recorded(identity(later), {"wandb": asked}, SUMMARY, SAMPLES) == []
    found = records(later)
    expected = [*rows(1, 2), {"step": 3, "round": 1, "rewards/margins": 3 / 7}]
    assert history(records(live)) == expected == history([record for record in found if "samples" not in str(record)])
    ours = [*SUMMARY, "loss", "rewards/margins", "step", "round"]
    assert [final_summary(found)[name] for name in ours] == [final_summary(records(live))[name] for name in ours]
    tables = [path for path in later.rglob("*.table.json") if SECRET in path.read_bytes()]
    staged = [path for path in later.rglob("staging/*") if SECRET in path.read_bytes()]
    assert tables
    assert staged, "the artifact's files stay with the run, so that it can be sent later"


def test_a_run_of_a_sweep_agent_keeps_the_id_that_the_agent_gave_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger, run = WandbLogger(mode="offline"), tmp_path / "tiny"
    alone = logger.destination()
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep7")  # W&B reads both when it is first used, so in a separate process
    monkeypatch.setenv("WANDB_RUN_ID", "agentrun")
    code = AGENT.format(tests=str(Path(__file__).parent), directory=str(run))
    output_of([sys.executable, "-c", code])
    assert of_kind("run", records(run))[0]["run_id"] == "agentrun"
    assert history(records(run)) == rows(1)
    assert logger.destination() != alone


def test_online_the_rows_that_the_server_has_are_not_sent_again() -> None:
    class Resumed:
        """Stands for a run whose server has steps 1 to 4."""

        def __init__(self) -> None:
            self.step, self.logged = 5, list[int]()

        def define_metric(self, *args: Any, **kwargs: Any) -> None: ...

        def log(self, row: dict[str, Any], step: int, commit: bool) -> None:
            self.logged.append(step)

    resumed: Any = Resumed()
    follower = WandbRun(resumed, WandbLogger(), Path())
    for row in rows(3, 4, 5, 6):
        follower.send(row)
    assert resumed.logged == [5, 6]


def test_auto_is_online_with_a_key_unless_the_environment_says_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from dpo_lab.loggers.wandb_run import WandbLogger as W; W().check(); print(W().destination())"

    def destination() -> str:
        return output_of([sys.executable, "-c", code]).strip()

    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    assert destination() == "/dpo-lab/ online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert destination() == "/dpo-lab/ offline"


def test_online_without_a_key_is_refused_and_nobody_is_asked() -> None:
    with pytest.raises(ConfigError, match=r"no API key is configured, .* Set WANDB_API_KEY .* logger.wandb.mode=offline"):
        WandbLogger(mode="online").check()


def test_without_the_package_it_is_refused_before_anything_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"logger=wandb needs wandb, .* Install it"):
        WandbLogger().check()


def test_history_reaches_the_disk_every_second_and_no_code_or_console_is_taken() -> None:
    import wandb

    settings = quiet_settings(wandb, WandbLogger().flush_seconds)
    assert settings.x_transaction_log_flush_interval == 1
    assert (settings.console, settings.disable_code, settings.save_code) == ("off", True, False)


def test_a_warning_is_an_alert_once_in_a_run_whichever_process_finds_it(tmp_path: Path) -> None:
    directory, logger = tmp_path / "tiny", WandbLogger(mode="offline")
    for steps in ((1, 2), (1, 2, 3)):
        with recorder(directory, logger) as record:
            for row in rows(*steps):
                record.tell(row)
            record.warn("length drift in round 1", "answers have become longer; try loss=r_dpo")
    alerts = [of_kind("alert", records(directory, process)) for process in (0, 1)]
    assert [(alert["title"], alert["text"], alert["level"]) for alert in alerts[0]] == [
        ("length drift in round 1", "answers have become longer; try loss=r_dpo", "WARN")
    ]
    assert alerts[1] == []


def test_a_finished_run_sent_later_brings_its_warnings(tmp_path: Path) -> None:
    run = tmp_path / "later"
    with Recorder(identity(run), {}, MetricsFile(run / METRICS)) as record:
        record.tell(rows(1)[0])
    send_recorded(identity(run), {"wandb": WandbLogger(mode="offline")}, SUMMARY, (), [("kl budget in round 1", "too far")])
    assert [alert["title"] for alert in of_kind("alert", records(run))] == ["kl budget in round 1"]


def test_held_out_figures_of_rows_have_their_best_value_too(tmp_path: Path) -> None:
    run = tmp_path / "tiny"
    with recorder(run, WandbLogger(mode="offline"), better={"gold": "max"}) as record:
        for row in rows(1, 2, 3):
            record.tell({**row, "gold": 1 / row["step"]})
    assert final_summary(records(run))["gold"] == {"last": 1 / 3, "max": 1.0}
