"""The stage `evaluate` with a logger: what W&B's own reader finds, sent once, without a prompt."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.components import RunError, component
from dpo_lab.loggers.base import LocalLogger
from dpo_lab.loggers.wandb_run import WandbLogger
from dpo_lab.ranking.controls import LengthRanker
from tests.models.directories import model_directory
from tests.stages.test_evaluate_models import adapter_directory, evaluate, pairs, values


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    adapter_directory(tmp_path / "moved", model_directory(tmp_path / "base", "qwen2"), 0.1)
    adapter_directory(tmp_path / "other", tmp_path / "base", 0.2)
    rows = [
        {"prompt": f"secret question {n}", "chosen": f"yes {n}", "rejected": f"no {n}", "topic": f"t{n % 2}"} for n in range(12)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def summary_read_by_wandb(path: Path) -> dict[str, Any]:
    """Return the summary of an offline file."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    updates = [record["summary"]["update"] for record in map(json.loads, lines) if record["type"] == "summary"]
    return {name: value for update in updates for name, value in update.items()}


def test_summary_and_tables_are_in_the_offline_run_and_are_sent_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how: dict[str, Any] = {"data": pairs(place), "category": "topic"}
    report = evaluate(place, "moved", "other", **how).run()
    (made,) = place.glob("outputs/evaluation/2-models-report-*")
    loggers = {"local": LocalLogger(), "wandb": WandbLogger(mode="offline")}
    evaluate(place, "moved", "other", **how, logger=loggers).run()  # what was measured before is sent, and not measured again
    assert "figures sent to wandb" in capsys.readouterr().out
    evaluate(place, "moved", "other", **how, logger=loggers).run()
    assert "figures sent" not in capsys.readouterr().out
    (path,) = made.glob("loggers/wandb/wandb/offline-run-*/run-*.wandb")
    accuracy = values(report, "pairs", "moved")["eval/accuracy"]
    summary = summary_read_by_wandb(path)
    assert summary["pairs/moved/eval/accuracy"] == accuracy["value"]
    assert summary["pairs/moved/eval/accuracy/low"] == accuracy["low"]
    tables = {each.name.split("_")[0]: json.loads(each.read_text()) for each in made.rglob("*.table.json") if each.is_file()}
    assert tables.keys() == {"figures", "comparisons", "categories"}
    figures = [dict(zip(tables["figures"]["columns"], row, strict=True)) for row in tables["figures"]["data"]]
    (row,) = (figure for figure in figures if (figure["figure"], figure["model"]) == ("eval/accuracy", "moved"))
    assert {name: row[name] for name in ("value", "low", "high")} == accuracy
    sentences = [row[tables["comparisons"]["columns"].index("sentence")] for row in tables["comparisons"]["data"]]
    assert sentences == [one["sentence"] for each in report["parts"][0]["figures"] for one in each["comparisons"]]
    assert b"secret question" not in b"".join(each.read_bytes() for each in made.rglob("loggers/**/*") if each.is_file())


@component
class MissingJudge(LengthRanker):
    def content(self) -> dict[str, Any]:
        raise RunError("it is not there.")


def test_models_are_measured_on_pairs_without_the_judge_whose_files_are_missing(place: Path) -> None:
    report = evaluate(place, "moved", data=pairs(place), judge=MissingJudge()).run()
    assert values(report, "pairs", "moved")["eval/accuracy"]["value"] is not None
