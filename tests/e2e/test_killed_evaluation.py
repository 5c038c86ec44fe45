"""A real process that evaluates, killed in the middle: the same command draws no answer again and ends with equal figures."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.models.directories import model_directory
from tests.stages.test_evaluate_models import adapter_directory

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = 160
pytestmark = pytest.mark.slow


def start(outputs: str) -> subprocess.Popen[str]:
    words = ["models=[moved]", "evaluation=generation", "prompts=jsonl", "prompts.path=asked.jsonl", "prompts.num_held_out=all"]
    words += ["judge=same", "ranker=length", "trainer=cpu", "precision=fp32", "sampler.max_new_tokens=32", "sampler.batch_size=8"]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "evaluate.py"), *words, f"paths.outputs={outputs}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return out


def figures(outputs: str) -> list[Any]:
    (path,) = Path(outputs).glob("evaluation/*/report.json")
    report = json.loads(path.read_text(encoding="utf-8"))
    return [(part["figures"], part["samples"]) for part in report["parts"]]


def test_an_evaluation_that_is_killed_resumes_and_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("asked.jsonl").write_text("\n".join(json.dumps({"prompt": f"Question {number}?"}) for number in range(PROMPTS)))
    adapter_directory(tmp_path / "moved", model_directory(tmp_path / "base", "qwen2"), 0.1)

    process = start("killed")
    kept = Path("killed/evaluation").glob
    while not (found := list(kept("moved-on-*/kept/evaluate_after.jsonl"))) or found[0].read_bytes().count(b"\n") < 3:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -9
    done = 4 * found[0].read_bytes().count(b"\n")  # 8 answers of a batch are 2 to each prompt
    assert 0 < done < PROMPTS
    assert not list(Path("killed/evaluation").glob("*/report.json"))

    out = finish(start("killed"))
    assert f"resuming evaluate after: {done} of {PROMPTS} prompts done" in out
    assert "resuming evaluate before" not in out  # the base was finished
    finish(start("undisturbed"))
    assert figures("killed") == figures("undisturbed")
