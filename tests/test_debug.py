"""The debug options through the command line: what they show, in seconds."""

import json
from pathlib import Path

import pytest

from dpo_lab.cli.main import train

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow
GIVEN = ["data=jsonl", f"data.path={ROOT}/docs/example_pairs.jsonl"]
SMALL = ["model.hidden_size=32", "model.intermediate_size=48", "model.num_heads=2", "trainer=cpu"]
films_too = pytest.mark.parametrize("data", [GIVEN, []], ids=["pairs", "films"])


def screen(outputs: Path, *words: str) -> list[str]:
    """Run a training and return its end screen."""
    assert train([*words, f"paths.outputs={outputs}"]) == 0
    (path,) = (outputs / "train").glob("*/screen.txt")
    return path.read_text(encoding="utf-8").splitlines()


def facts(outputs: Path) -> dict[str, float]:
    """Return what the policy's manifest says of its training."""
    (path,) = (outputs / "policy").glob("*/manifest.json")
    found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))["facts"]
    return found


@films_too
def test_overfit_learns_eight_pairs_by_heart_and_says_so(tmp_path: Path, data: list[str]) -> None:
    small = ["optim.lr=1e-2", *SMALL] if data else ["trainer=cpu"]
    lines = screen(tmp_path, "debug=overfit", *data, *small)
    made = facts(tmp_path)
    assert made["pairs"] == 8
    assert made["loss/first"] == pytest.approx(0.693, abs=1e-3)
    assert made["loss/last"] <= 0.05
    assert any(line.startswith("  trainer.max_pairs=8: ") for line in lines)
    (said,) = (line for line in lines if line.startswith("  stopped early after step "))
    assert said.endswith(" reached callbacks.early_stopping.threshold=0.05")
    assert 1 < made["steps"] < 100


def test_overfit_says_that_a_model_did_not_learn(tmp_path: Path) -> None:
    lines = screen(tmp_path, "debug=overfit", *GIVEN, *SMALL, "optim.lr=1e-9", "trainer.epochs=2")
    assert "  loss 0.6931 did not reach callbacks.early_stopping.threshold=0.05" in lines
    assert facts(tmp_path)["steps"] == 2


@films_too
def test_profile_says_where_its_files_are(tmp_path: Path, data: list[str]) -> None:
    lines = screen(tmp_path, "debug=profile", *data, *(SMALL if data else ["trainer=cpu"]))
    (said,) = (line for line in lines if line.startswith("  profile of steps 3 to 5: "))
    table = Path(said.removeprefix("  profile of steps 3 to 5: ").split(", and ")[0])
    assert "aten::mm" in table.read_text(encoding="utf-8")
    assert (table.parent / "profile_trace.json.gz").exists()
    assert (table.parent / "metrics.jsonl").exists()
    assert facts(tmp_path)["steps"] == 6
