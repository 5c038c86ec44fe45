"""A real process that ranks, killed in the middle: the same command asks about no kept prompt again and ends with equal files."""

import json
from pathlib import Path

import pytest

from tests.e2e.forked import Command, finished

pytestmark = pytest.mark.slow

SCORES = """
import time
from pathlib import Path

def score(prompt, answers):
    with Path("calls.txt").open("a") as file:
        file.write(prompt + chr(10))
    time.sleep(0.004)
    return [len(answer) for answer in answers]
"""
PROMPTS, BATCH = 400, 16


def start(outputs: str) -> Command:
    words = ["candidates.path=answers.jsonl", "ranker=function", "ranker.path=own_scores:score", "trainer=cpu"]
    return Command("scripts/rank.py", *words, f"paths.outputs={outputs}", PYTHONPATH=".")


def kept_batches() -> int:
    return sum(path.read_bytes().count(b"\n") for path in Path("killed/ranking").glob("*/kept/rank.jsonl"))


def files(outputs: str) -> dict[str, bytes]:
    found = [*Path(outputs).glob("ranking/*/candidates.jsonl"), *Path(outputs).glob("pairs/*/pairs.jsonl")]
    return {path.parent.parent.name: path.read_bytes() for path in found}


def test_a_ranking_that_is_killed_goes_on_and_repeats_nothing_that_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = ({"prompt": f"Why {number}?", "answers": ["No.", f"So it is {number}.", "Yes!"]} for number in range(PROMPTS))
    Path("answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("own_scores.py").write_text(SCORES)
    calls = Path("calls.txt")

    command = start("killed")
    command.stop_when(lambda: kept_batches() >= 5)
    assert command.returncode == -9
    kept_prompts = kept_batches() * BATCH
    before = calls.read_text().splitlines()
    assert kept_prompts <= len(set(before)) < PROMPTS

    assert f"resuming rank: {kept_prompts} of {PROMPTS} prompts done" in finished(start("killed"))
    asked = dict.fromkeys(calls.read_text().splitlines()[len(before) :])  # about some several times, for the order of scores
    assert list(asked) == [f"Why {number}?" for number in range(kept_prompts, PROMPTS)]

    calls.unlink()
    finished(start("undisturbed"))
    assert files("killed") == files("undisturbed")
    assert files("killed").keys() == {"ranking", "pairs"}

    calls.unlink()
    assert "ranked before" in finished(start("killed"))
    assert not calls.exists()  # found by its content, and nothing ranked
