"""A run whose pairs another ranker than the judge chose: its belief stands beside the word of the judge."""

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from dpo_lab.artifacts import MANIFEST
from dpo_lab.pipeline.on_policy import OnPolicy
from dpo_lab.ranking.controls import LengthRanker
from dpo_lab.records import read_jsonl
from dpo_lab.training.iteration import Iteration
from tests.small_stage import stage


def lengths(outputs: Path, name: str) -> list[int]:
    """Return the words of each answer of a measurement."""
    (path,) = (outputs / "evaluation").glob(f"{name}-*/answers.jsonl")
    return [len(text.split()) for record in read_jsonl(path) for text in record["responses"]]


def test_the_belief_is_the_ranker_s_own_win_rate_and_the_model_before_is_measured_once(tmp_path: Path) -> None:
    judged_by_gold = stage(tmp_path, iteration=Iteration())
    assert isinstance(judged_by_gold.data, OnPolicy)
    summary = replace(judged_by_gold, data=replace(judged_by_gold.data, ranker=LengthRanker())).run()

    sides = (lengths(tmp_path, f"tiny-films-{name}") for name in ("before", "round1-after"))
    told = [float(after < before) + 0.5 * (after == before) for before, after in zip(*sides, strict=True)]
    assert summary["win_rate/ranker/round_1"] == summary["win_rate/ranker"] == pytest.approx(fmean(told))
    (screen,) = tmp_path.glob("train/*/screen.txt")
    assert {"  wins, length says", "  gold says so too"} <= {line[:19].rstrip() for line in screen.read_text().splitlines()}


def test_a_ranker_that_is_the_judge_has_no_second_opinion(tmp_path: Path) -> None:
    stage(tmp_path, iteration=Iteration()).run()
    facts = [json.loads(path.read_text())["facts"] for path in (tmp_path / "evaluation").glob(f"*/{MANIFEST}")]
    assert any("win_rate" in fact for fact in facts)
    assert not any("win_rate/ranker" in fact for fact in facts)
