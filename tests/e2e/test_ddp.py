"""trainer=ddp through the command line: as jobs of a multirun, and stopped in the middle."""

import json
import signal
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.e2e.forked import ROOT, Command, finished
from tests.e2e.results import assert_equal, rows

PAIRS = ["data=jsonl", f"data.path={ROOT / 'docs' / 'example_pairs.jsonl'}", "trainer.batch_size=5"]
pytestmark = pytest.mark.slow


def start(outputs: Path, *words: str) -> Command:
    return Command("train.py", *words, *PAIRS, f"paths.outputs={outputs}", leads=True)


def test_each_job_of_a_multirun_runs_once_and_two_processes_give_what_one_gives_also_while_they_train(tmp_path: Path) -> None:
    words = ("trainer.epochs=3", "evaluation.every=5", "precision=fp32")
    said = finished(start(tmp_path, "-m", "trainer=auto,ddp", *words))
    assert said.count("dpo-lab train") == 2
    assert said.count("processes 2") == 1
    assert len(list((tmp_path / "sweep").iterdir())) == 1
    one, two = sorted((tmp_path / "policy").glob("tiny*"))
    first = rows(one), load_file(one / "model.safetensors")
    second = rows(two), load_file(two / "model.safetensors")
    assert len(first[0]) == 21  # 32 pairs in steps of 5, three times
    assert first[0][1]["loss"] == pytest.approx(second[0][1]["loss"], rel=1e-5)  # float32; float64 is in tests/training
    for name, weight in first[1].items():
        assert abs(weight - second[1][name]).max() < 2e-3 * abs(weight).max()
    texts = [(policy / "evaluations.jsonl").read_text(encoding="utf-8") for policy in (one, two)]
    measured = [[json.loads(line) for line in text.splitlines()] for text in texts]
    assert [[row["step"] for row in of_policy] for of_policy in measured] == [[5, 10, 15, 20, 21]] * 2
    for alone, together in zip(*measured, strict=True):
        assert together["figures"]["eval/loss"] == pytest.approx(alone["figures"]["eval/loss"], rel=1e-3)


def test_two_processes_end_early_together(tmp_path: Path) -> None:
    ending = ["callbacks=early_stopping", "callbacks.early_stopping.window=1", "callbacks.early_stopping.threshold=0.3"]
    said = finished(start(tmp_path, "trainer=ddp", "trainer.epochs=3", *ending))
    (policy,) = (tmp_path / "policy").glob("tiny*")
    found = rows(policy)
    assert found[-1]["loss"] <= 0.3 < min(row["loss"] for row in found[:-1])
    assert f"stopped early after step {len(found)} of 21: loss " in said


def test_two_processes_stopped_by_sigterm_go_on_to_the_same_weights(tmp_path: Path) -> None:
    stopped, whole, words = tmp_path / "stopped", tmp_path / "whole", ("trainer=ddp", "trainer.epochs=10")
    command = start(stopped, *words)
    command.stop_when(lambda: any((stopped / "policy").glob("*/metrics.jsonl")), signal.SIGTERM)  # to all, as job schedulers do
    assert command.returncode == 75
    assert "DPO round 1 resumes after step" in finished(start(stopped, *words))
    finished(start(whole, *words))
    assert_equal(stopped, whole)
