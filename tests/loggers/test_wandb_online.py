"""What a server of W&B is told by a run, by `wandb sync` of offline files and by a run of `wandb agent`: a loopback stand-in."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.loggers.wandb_server import WandbServer

ROOT = Path(__file__).resolve().parents[2]
LINEAGE = [
    {
        "kind": "tokens",
        "name": "t-films-round1-cdcdcdcd",
        "id": "cd" * 32,
        "parents": ["ef" * 32],
        "path": "x",
        "data": "da" * 32,
    },
    {"kind": "ranking", "name": "gold-films-12121212", "id": "12" * 32, "parents": [], "path": "x"},
    {"kind": "policy", "name": "tiny-dpo-films-round1-34343434", "id": "34" * 32, "parents": ["cd" * 32], "path": "x"},
]
RUN = """
import json, os, signal, sys, time
from pathlib import Path
sys.path[:0] = [{root!r}]
from tests.loggers.test_logger_wandb import recorder, rows, wandb_file
from dpo_lab.loggers.wandb_run import WandbLogger
from tests.loggers.test_wandb_online import LINEAGE

directory, mode, steps, kill = Path({directory!r}), {mode!r}, {steps!r}, {kill!r}
with recorder(directory, WandbLogger(mode=mode, project="films", samples=True)) as record:
    for row in rows(*steps):
        record.tell(row)
    if kill:
        while b"last" not in wandb_file(directory).read_bytes():
            record.tell({{"step": max(steps), "last": 1}}) or time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    record.warn("length drift in round 1", "answers have become longer")
    record.finish({{"gold/after": 0.75}}, [{{"prompt": "A review?", "after": "speechless"}}], LINEAGE)
print(json.dumps(sys.argv[1:]))
"""


def program(directory: Path, mode: str, *steps: int, kill: bool = False) -> str:
    return RUN.format(root=str(ROOT), directory=str(directory), mode=mode, steps=steps, kill=kill)


def done(command: list[str], directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Return what a command printed that knows no account of W&B but the one of its environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    apart = {
        "NETRC": str(directory / "no-netrc"),
        "WANDB_CONFIG_DIR": str(directory / "config"),
        "WANDB_ERROR_REPORTING": "false",
    }
    return subprocess.run(
        command, env={**clean, **apart, **environment}, capture_output=True, text=True, timeout=120, cwd=directory, check=False
    )


def python(code: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return done([sys.executable, "-c", code], directory, **environment)


def summary_of(server: WandbServer) -> dict[str, Any]:
    sent = [body["files"]["wandb-summary.json"] for _, body in server.streams if "wandb-summary.json" in body.get("files", {})]
    found: dict[str, Any] = json.loads(sent[-1]["content"][-1])
    return found


def test_a_run_online_uses_its_data_and_ranking_and_logs_its_policy(tmp_path: Path) -> None:
    with WandbServer() as server:
        ran = python(program(tmp_path / "tiny", "online", 1, 2, 3), tmp_path, **server.environment)
    assert ran.returncode == 0, ran.stderr
    assert "stopped" not in ran.stdout, ran.stdout
    made = {each["artifactCollectionName"]: each["artifactTypeName"] for each in server.asked("CreateArtifact")}
    assert {name: kind for name, kind in made.items() if not name.startswith("run-")} == {
        "t-films-round1": "data",
        "gold-films": "ranking",
        "tiny-dpo-films-round1": "policy",
    }
    assert len(server.asked("UseArtifact")) == 2
    assert server.asked("UpsertBucket")[0]["jobType"] == "train"
    assert [alert["title"] for alert in server.asked("NotifyScriptableRunAlert")] == ["length drift in round 1"]
    (run,) = server.lines
    assert [row["_step"] for _, row in server.history(run)] == [1, 2, 3, 4], "the table is logged behind the last step"
    summary = summary_of(server)
    assert summary["gold/after"] == 0.75
    assert summary["rewards/margins"] == {"last": 3 / 7, "max": 3 / 7}
    texts = [path for path, body in server.uploads.items() if b"speechless" in body]
    assert len(texts) == 1, "the table that was asked for, and nothing else"


@pytest.mark.slow
def test_sync_makes_one_run_of_the_files_of_a_killed_and_a_resumed_process(tmp_path: Path) -> None:
    run = tmp_path / "tiny"
    assert python(program(run, "offline", 1, 2, 3, 4, kill=True), tmp_path).returncode == -9
    resumed = python(program(run, "offline", 1, 2, 3, 4, 5, 6), tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    directories = sorted(map(str, run.glob("loggers/wandb/wandb/offline-run-*")))
    assert len(directories) == 2
    with WandbServer() as server:
        synced = done([sys.executable, "-m", "wandb", "sync", "--yes", *directories], tmp_path, **server.environment)
    assert synced.returncode == 0, synced.stdout + synced.stderr
    (name,) = server.lines  # one run: both directories have its id
    sent = [(line, row) for line, row in server.history(name) if "loss" in row]
    assert [line for line, _ in sent] == list(range(len(sent))), "nothing that is there is overwritten"
    assert [row["step"] for _, row in sent[:4]] == [1, 2, 3, 4], "of the killed process"
    assert [row["step"] for _, row in sent[4:]] == [1, 2, 3, 4, 5, 6], "what was not known to be there is sent again"
    by_step = {row["step"]: row["loss"] for _, row in sent}
    assert all(row["loss"] == by_step[row["step"]] for _, row in sent), "twice, and equal: a chart over `step` shows one curve"
    assert [row["_step"] for _, row in sent] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 9], "W&B's own count goes on"
    assert {each["artifactTypeName"] for each in server.asked("CreateArtifact")} == {"run_table", "policy"}
    assert [alert["title"] for alert in server.asked("NotifyScriptableRunAlert")] == ["length drift in round 1"]


@pytest.mark.slow
def test_a_run_of_an_agent_gets_the_command_line_of_the_sweep_and_the_id_of_the_agent(tmp_path: Path) -> None:
    sweep = yaml.safe_load((ROOT / "docs" / "wandb_sweep.yaml").read_text(encoding="utf-8"))
    (tmp_path / "train.py").write_text(
        program(tmp_path / "tiny", "online", 1, 2) + "Path('typed').write_text(json.dumps(sys.argv[1:]))"
    )
    sweep["command"] = [sys.executable if word == "python" else word for word in sweep["command"]]
    args = {"loss": {"value": "ipo"}, "recipe.beta": {"value": 0.5}, "recipe.lr": {"value": 1e-4}, "seed": {"value": 2}}
    commands: list[dict[str, Any]] = [
        {"type": "run", "run_id": "agentrun", "program": "train.py", "args": args},
        *({} for _ in range(4)),
        {"type": "exit"},
    ]
    with WandbServer(sweep=yaml.safe_dump(sweep), commands=commands) as server:
        ran = done([sys.executable, "-m", "wandb", "agent", "somebody/films/s"], tmp_path, **server.environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    typed = json.loads((tmp_path / "typed").read_text())
    assert typed == ["logger=wandb", "logger.wandb.mode=online", "loss=ipo", "recipe.beta=0.5", "recipe.lr=0.0001", "seed=2"]
    assert list(server.lines) == ["agentrun"]
    assert [row["step"] for _, row in server.history("agentrun") if "loss" in row] == [1, 2]
