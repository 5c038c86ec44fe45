"""The figures that a run is said to have before it runs are those of its summary."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.losses.simpo import SimPOLoss
from dpo_lab.reference.none import NoReference
from dpo_lab.rules.figures import summary_figures
from dpo_lab.stages.train import Train
from dpo_lab.training.iteration import Iteration
from tests.small_stage import given, stage


def promised(stage: Train) -> set[str]:
    return set(summary_figures(stage.evaluation, stage.data, stage.iteration, stage.reference, stage.loss))


def numbers(summary: dict[str, Any]) -> set[str]:
    """Return the figures that a search can read: neither seconds nor findings, which a run has or not."""
    return {
        name for name, value in summary.items() if isinstance(value, int | float) and not name.startswith(("seconds/", "health/"))
    }


def ends(names: set[str]) -> set[str]:
    """Return the ends of intervals: where all prompts say the same, there is none."""
    return {name for name in names if name.endswith(("/low", "/high"))}


@pytest.mark.parametrize("parts", [{}, {"reference": NoReference(), "loss": SimPOLoss()}])
def test_given_pairs_have_the_figures_that_are_promised(tmp_path: Path, parts: dict[str, Any]) -> None:
    rows = [
        {
            "prompt": f"question {n}?",
            "chosen": f" a good answer {n}",
            "rejected": f" bad bad {n}",
            "score_chosen": 2.0,
            "score_rejected": 1.0,
            "preference": 0.9,
        }
        for n in range(30)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = given(tmp_path, tmp_path / "pairs.jsonl", **parts)
    found = numbers(asked.run())
    assert found <= promised(asked)
    assert promised(asked) - found <= ends(promised(asked))
    assert {"eval/accuracy/low", "eval/margin/low", "eval/loss/high", "eval/losses/simpo/low"} <= found


def test_made_pairs_have_the_figures_that_are_promised(tmp_path: Path) -> None:
    asked = stage(tmp_path, iteration=Iteration(rounds=1))
    found = numbers(asked.run())
    assert found <= promised(asked)
    assert promised(asked) - found <= ends(promised(asked))
    assert {"gold/low", "win_rate/low", "kl/low", "well_formed/high"} <= found
