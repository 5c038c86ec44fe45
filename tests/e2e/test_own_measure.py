"""CONTRIBUTING.md's measure, followed to the letter: it runs, and everything that shows figures shows it."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dpo_lab.amounts import short
from dpo_lab.cli.main import main
from dpo_lab.components import component
from dpo_lab.evaluation.base import Measure, Setting
from dpo_lab.evaluation.context import Context, Measured
from dpo_lab.figures import Figure
from tests.small_stage import stage

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^\*\*`([^`]+)`\*\*\n\n```\w+\n(.*?)^```", TEXT, re.S | re.M))
COMMAND = re.findall(r"dpo-lab (train --config-dir my_conf evaluation=mine .*optimized_metric=\S+)", TEXT)[0]


@component
class Moved(Measure):
    """How far training has moved the weights, all together; reads neither pairs nor prompts."""

    def figures(self, setting: Setting) -> list[Figure]:
        return [Figure(name="moved", title="distance of the weights", start=0.0, each_round=True)]

    def measure(self, context: Context) -> Measured:
        with context.policy.lent(context.device) as policy, context.before.lent(context.device) as before:
            both = zip(policy.model.parameters(), before.model.parameters(), strict=True)
            return Measured({"moved": sum(float((one - other).detach().square().sum()) for one, other in both) ** 0.5})


def test_a_measure_that_reads_no_pairs_measures_every_round_of_made_pairs(tmp_path: Path) -> None:
    summary = stage(tmp_path, evaluation=Moved()).run()
    assert 0 < summary["moved/round_1"] != summary["moved/round_2"] == summary["moved"]
    assert "eval/note" not in summary
    (screen,) = tmp_path.glob("train/*/screen.txt")
    assert ["distance", "of", "the", "weights", "0", short(summary["moved"])] in [
        line.split() for line in screen.read_text().splitlines()
    ]


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with the measure of CONTRIBUTING.md and some pairs, as the current one and on Python's path."""
    for name in ("my_measures/bits.py", "my_conf/evaluation/mine.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    (tmp_path / "my_pairs.jsonl").write_bytes((ROOT / "docs" / "example_pairs.jsonl").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)
    for name in [name for name in sys.modules if name.split(".")[0] == "my_measures"]:
        del sys.modules[name]


def test_a_measure_beside_the_project_is_shown_wherever_figures_are(beside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND.split(), "trainer=cpu", "trainer.max_steps=4", "optim.lr=1e-2", "logger=wandb"]) == 0
    (run,) = (path.parent for path in beside.glob("outputs/train/*/summary.json"))
    summary = json.loads((run / "summary.json").read_text())
    assert 0 < summary["bits/after"] != summary["bits/before"] < math.log2(2000)  # a uniform guess among the tokens
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.startswith("  bits per token of chosen answers")]
    assert row.split()[-2:] == [f"{summary['bits/before']:.2f}", f"{summary['bits/after']:.2f}"]
    assert not any("nothing was held out" in line.lower() for line in lines)
    report = (run / "report.html").read_text()
    assert report.count("bits per token of chosen answers") >= 2  # as a result, and round by round
    (file,) = run.glob("loggers/wandb/wandb/offline-run-*/*.wandb")
    inspected = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)], capture_output=True, text=True, check=True
    )
    sent = [json.loads(line) for line in inspected.stdout.splitlines()]
    updates = [record["summary"]["update"] for record in sent if record["type"] == "summary"]
    assert {name: value for update in updates for name, value in update.items()}["bits/after"] == summary["bits/after"]


def test_its_figure_is_the_one_by_which_runs_are_compared(beside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for word in COMMAND.split() if not word.startswith("optimized_metric")]
    assert main([*words, "trainer=cpu", "trainer.max_steps=1", "-m", "seed=0,1"]) == 0
    shown = capsys.readouterr().out
    assert "runs by bits/after, lower is better" in shown
    assert len([line for line in shown.splitlines() if " finished " in line]) == 2
    assert main([*words, "optimized_metric=bits"]) == 2
    assert "Valid: bits/after, bits/before." in capsys.readouterr().err
