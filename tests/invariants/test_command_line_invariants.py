"""What must not matter to a run, asked of the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.cli.main import train

SMALL = ["model.hidden_size=32", "model.intermediate_size=48", "model.num_heads=2", "trainer=cpu", "precision=fp32"]

WHOLE = "recipe.token_budget=100000"


def rows(count: int = 24) -> list[dict[str, str]]:
    return [
        {"prompt": f"question {n} of {n % 5}?", "chosen": f" a good answer {n}", "rejected": f" bad {n} bad" + " bad" * (n % 4)}
        for n in range(count)
    ]


def run(directory: Path, data: list[dict[str, str]], *words: str) -> dict[str, Any]:
    """Return the summary of a run on given pairs in a separate directory."""
    directory.mkdir()
    path = directory / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, data)), encoding="utf-8")
    assert (
        train(["data=jsonl", f"data.path={path}", f"paths.outputs={directory}/out", "recipe.batch_size=8", *SMALL, *words]) == 0
    )
    (summary,) = (directory / "out" / "train").glob("*/summary.json")
    figures: dict[str, Any] = json.loads(summary.read_text(encoding="utf-8"))
    return {name: value for name, value in figures.items() if not name.startswith("seconds")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The figures of steps of 8 pairs in one forward pass."""
    return run(tmp_path_factory.mktemp("whole") / "run", rows(), WHOLE)


@pytest.mark.parametrize("budget", [150, 1])  # two to four pairs a pass, one pair a pass
def test_accumulating_a_step_from_micro_batches_changes_nothing(tmp_path: Path, whole: dict[str, Any], budget: int) -> None:
    split = run(tmp_path / "run", rows(), f"recipe.token_budget={budget}")
    for name in ("eval/loss", "eval/margin", "eval/accuracy"):
        assert split[name] == pytest.approx(whole[name], rel=1e-4), name


def test_the_same_command_elsewhere_gives_the_same_figures_to_the_bit(tmp_path: Path, whole: dict[str, Any]) -> None:
    assert run(tmp_path / "run", rows(), WHOLE, "force=true", "tags=[again]") == whole


def test_another_seed_gives_other_figures(tmp_path: Path, whole: dict[str, Any]) -> None:
    assert run(tmp_path / "run", rows(), WHOLE, "seed=1")["eval/loss"] != whole["eval/loss"]


def test_either_labelling_of_the_same_answers_is_learned(tmp_path: Path, whole: dict[str, Any]) -> None:
    swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows()]
    figures = run(tmp_path / "run", swapped, WHOLE)
    assert figures["eval/accuracy"] == whole["eval/accuracy"] == 1.0
    assert figures["eval/rewards/chosen"] > figures["eval/rewards/rejected"]  # of what the file calls chosen, here the bad ones


def test_frozen_and_cached_reference_agree(tmp_path: Path, whole: dict[str, Any]) -> None:
    frozen = run(tmp_path / "run", rows(), WHOLE, "reference=frozen")
    for name in ("eval/loss", "eval/margin"):
        assert frozen[name] == pytest.approx(whole[name], rel=1e-3)
