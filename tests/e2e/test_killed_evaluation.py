"""A real process that evaluates, killed in the middle: the same command draws no answer again and ends with equal figures."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.forked import Command, finished
from tests.models.directories import model_directory
from tests.stages.test_evaluate_models import adapter_directory

PROMPTS = 160
pytestmark = pytest.mark.slow


def start(outputs: str) -> Command:
    words = ["models=[moved]", "evaluation=generation", "prompts=jsonl", "prompts.path=asked.jsonl", "prompts.num_held_out=all"]
    words += ["judge=same", "ranker=length", "trainer=cpu", "precision=fp32", "sampler.max_new_tokens=32", "sampler.batch_size=8"]
    return Command("scripts/evaluate.py", *words, f"paths.outputs={outputs}")


def kept_batches() -> int:
    found = Path("killed/evaluation").glob("moved-on-*/kept/evaluate_after.jsonl")
    return sum(path.read_bytes().count(b"\n") for path in found)


def figures(outputs: str) -> list[Any]:
    (path,) = Path(outputs).glob("evaluation/*/report.json")
    report = json.loads(path.read_text(encoding="utf-8"))
    return [(part["figures"], part["samples"]) for part in report["parts"]]


def test_an_evaluation_that_is_killed_resumes_and_finds_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("asked.jsonl").write_text("\n".join(json.dumps({"prompt": f"Question {number}?"}) for number in range(PROMPTS)))
    adapter_directory(tmp_path / "moved", model_directory(tmp_path / "base", "qwen2"), 0.1)

    command = start("killed")
    command.stop_when(lambda: kept_batches() >= 3)
    assert command.returncode == -9
    done = 4 * kept_batches()  # 8 answers of a batch are 2 to each prompt
    assert 0 < done < PROMPTS
    assert not list(Path("killed/evaluation").glob("*/report.json"))

    out = finished(start("killed"))
    assert f"resuming evaluate after: {done} of {PROMPTS} prompts done" in out
    assert "resuming evaluate before" not in out  # the base was finished
    finished(start("undisturbed"))
    assert figures("killed") == figures("undisturbed")
