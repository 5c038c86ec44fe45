"""A real process that samples, killed in the middle: the same command draws no kept answer again and ends with equal files."""

import json
from pathlib import Path

import pytest

from tests.e2e.forked import Command, finished
from tests.models.directories import model_directory

PROMPTS = 250  # a fifth is kept for evaluation
pytestmark = pytest.mark.slow


def start(outputs: str) -> Command:
    words = ["model=local", "model.path=model", "prompts=jsonl", "prompts.path=asked.jsonl", "trainer=cpu"]
    words += ["sampler.num_samples=2", "sampler.max_new_tokens=32", "sampler.batch_size=8", f"paths.outputs={outputs}"]
    return Command("scripts/sample.py", *words)


def kept_batches() -> int:
    return sum(path.read_bytes().count(b"\n") for path in Path("killed/candidates").glob("*/kept/sample.jsonl"))


def candidates(outputs: str) -> bytes:
    (path,) = Path(outputs).glob("candidates/*/candidates.jsonl")
    return path.read_bytes()


def test_sampling_that_is_killed_goes_on_and_draws_the_same_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = (json.dumps({"prompt": f"Question {number}" + "?" * (number % 7 + 1)}) for number in range(PROMPTS))
    Path("asked.jsonl").write_text("\n".join(rows))
    model_directory(tmp_path / "model", "qwen2")

    command = start("killed")
    command.stop_when(lambda: kept_batches() >= 5)
    assert command.returncode == -9
    done = 4 * kept_batches()  # prompts of a batch
    assert 0 < done < 4 * PROMPTS // 5

    assert f"resuming sample: {done} of {4 * PROMPTS // 5} prompts done" in finished(start("killed"))
    finished(start("undisturbed"))
    assert candidates("killed") == candidates("undisturbed")
    assert candidates("killed").count(b"\n") == 4 * PROMPTS // 5
    assert "drawn before" in finished(start("killed"))
