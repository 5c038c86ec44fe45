"""trainer=ddp through the command line: as jobs of a multirun, and stopped in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[2]
PAIRS = ["data=jsonl", f"data.path={ROOT / 'docs' / 'example_pairs.jsonl'}", "trainer.batch_size=5"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "2"}  # one for each of two processes
pytestmark = pytest.mark.slow


def command(outputs: Path, *words: str) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *words, *PAIRS, f"paths.outputs={outputs}"]


def rows(policy: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (policy / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in row.items() if not name.startswith(("time/", "memory/"))} for row in found]


def test_each_job_of_a_multirun_runs_once_and_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    words = command(tmp_path, "-m", "trainer=auto,ddp", "trainer.epochs=3")
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("dpo-lab train") == 2
    assert done.stdout.count("processes 2") == 1
    assert len(list((tmp_path / "sweep").iterdir())) == 1
    one, two = sorted((tmp_path / "policy").glob("tiny*"))
    first = rows(one), load_file(one / "model.safetensors")
    second = rows(two), load_file(two / "model.safetensors")
    assert len(first[0]) == 21  # 32 pairs in steps of 5, three times
    assert first[0][1]["loss"] == pytest.approx(second[0][1]["loss"], rel=1e-5)  # float32; float64 is in tests/training
    for name, weight in first[1].items():
        assert abs(weight - second[1][name]).max() < 2e-3 * abs(weight).max()


def test_two_processes_end_early_together(tmp_path: Path) -> None:
    ending = ["callbacks=early_stopping", "callbacks.early_stopping.window=1", "callbacks.early_stopping.threshold=0.3"]
    words = command(tmp_path, "trainer=ddp", "trainer.epochs=3", *ending)
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (policy,) = (tmp_path / "policy").glob("tiny*")
    found = rows(policy)
    assert found[-1]["loss"] <= 0.3 < min(row["loss"] for row in found[:-1])
    assert f"stopped early after step {len(found)} of 21: loss " in done.stdout


def test_two_processes_are_measured_while_they_train_as_one_is(tmp_path: Path) -> None:
    words = command(tmp_path, "-m", "trainer=auto,ddp", "trainer.epochs=2", "evaluation.every=5", "precision=fp32")
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    texts = [path.read_text(encoding="utf-8") for path in sorted((tmp_path / "policy").glob("tiny*/evaluations.jsonl"))]
    one, two = ([json.loads(line) for line in text.splitlines()] for text in texts)
    assert [each["step"] for each in one] == [each["step"] for each in two] == [5, 10, 14]
    for alone, together in zip(one, two, strict=True):
        assert together["figures"]["eval/loss"] == pytest.approx(alone["figures"]["eval/loss"], rel=1e-3)


def test_two_processes_stopped_by_sigterm_go_on_to_the_same_weights(tmp_path: Path) -> None:
    words = command(tmp_path / "stopped", "trainer=ddp", "trainer.epochs=10")
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True
    )
    while not any((tmp_path / "stopped" / "policy").glob("*/metrics.jsonl")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)  # to all of them, as job schedulers do
    said = process.communicate(timeout=100)
    assert process.returncode == 75, said
    again = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False)
    assert again.returncode == 0, again.stderr
    assert "DPO round 1 resumes after step" in again.stdout
    whole = command(tmp_path / "whole", "trainer=ddp", "trainer.epochs=10")
    subprocess.run(whole, check=True, capture_output=True, env=ENVIRONMENT, timeout=300)
    (stopped,), (undisturbed,) = ((tmp_path / name / "policy").glob("tiny*") for name in ("stopped", "whole"))
    assert (stopped / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()
    assert rows(stopped) == rows(undisturbed) != []
