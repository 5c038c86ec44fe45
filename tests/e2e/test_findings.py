"""Commands of docs/evaluation.md: one round on the film world that shows a finding, and one that shows none."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.forked import Command, finished

SMALL = ["iteration.rounds=1", "prompts.num_prompts=200", "evaluation.max_prompts=60"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, pretrained: Callable[..., Path]) -> Path:
    return pretrained(tmp_path_factory.mktemp("outputs"))


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], set()),
        (["optim.lr=1e-9"], {"stuck_at_start"}),
        (["optim.lr=5e-3"], {"likelihood_displacement", "kl_budget", "answers_degrade"}),
        (["ranker=length", "trainer.epochs=6"], {"ranker_and_judge_part", "length_drift"}),
    ],
    ids=["none", "stuck", "too fast", "another ranker"],
)
def test_a_command_shows_its_findings(outputs: Path, words: list[str], names: set[str]) -> None:
    said = finished(Command("train.py", *SMALL, *words, f"paths.outputs={outputs}"))
    newest = max((outputs / "train").glob("*/summary.json"), key=lambda path: path.stat().st_mtime_ns)
    summary = json.loads(newest.read_text(encoding="utf-8"))
    found = {name.removeprefix("health/") for name in summary if name.startswith("health/")} - {"findings"}
    assert names <= found if names else not found
    assert ("\nhealth\n" in said) == bool(found)
