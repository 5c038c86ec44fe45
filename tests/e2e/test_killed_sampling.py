"""A real process that samples, killed in the middle: the same command draws no kept answer again and ends with equal files."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.models.directories import model_directory

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = 250  # a fifth is kept for evaluation
pytestmark = pytest.mark.slow


def start(outputs: str) -> subprocess.Popen[str]:
    words = ["model=local", "model.path=model", "prompts=jsonl", "prompts.path=asked.jsonl", "trainer=cpu"]
    words += ["sampler.num_samples=2", "sampler.max_new_tokens=32", "sampler.batch_size=8", f"paths.outputs={outputs}"]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "sample.py"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return out


def candidates(outputs: str) -> bytes:
    (path,) = Path(outputs).glob("candidates/*/candidates.jsonl")
    return path.read_bytes()


def test_sampling_that_is_killed_goes_on_and_draws_the_same_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = (json.dumps({"prompt": f"Question {number}" + "?" * (number % 7 + 1)}) for number in range(PROMPTS))
    Path("asked.jsonl").write_text("\n".join(rows))
    model_directory(tmp_path / "model", "qwen2")

    process = start("killed")
    while not (kept := list(Path("killed/candidates").glob("*/kept/sample.jsonl"))) or kept[0].read_bytes().count(b"\n") < 5:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -9
    done = 4 * kept[0].read_bytes().count(b"\n")  # prompts of a batch
    assert 0 < done < 4 * PROMPTS // 5

    assert f"resuming sample: {done} of {4 * PROMPTS // 5} prompts done" in finish(start("killed"))
    finish(start("undisturbed"))
    assert candidates("killed") == candidates("undisturbed")
    assert candidates("killed").count(b"\n") == 4 * PROMPTS // 5
    assert "drawn before" in finish(start("killed"))
