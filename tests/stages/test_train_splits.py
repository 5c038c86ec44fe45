"""Facts about `train` on a data set with one split per round."""

import json
from pathlib import Path

import pytest

from dpo_lab.data.sources import HubPairs
from dpo_lab.training.iteration import Iteration
from tests.data.hub_directories import scored_rows, snorkel_style, written
from tests.small_stage import directories, given


@pytest.mark.slow  # two trainings, 8 s
def test_every_round_trains_on_its_split_and_evaluates_on_its_test_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = snorkel_style(tmp_path / "set")
    for name, table in {"train": scored_rows(14, 200), "test": scored_rows(4, 250)}.items():
        written(path, {f"data/{name}_iteration_2-00000-of-00001.parquet": table})
    data = HubPairs(path=str(path), splits=("train_iteration_1", "train_iteration_2"), max_length=64)
    stage = given(tmp_path, path, data=data, iteration=Iteration(rounds=2))
    summary = stage.run()
    (run,) = (tmp_path / "train").glob("*/run.json")
    assert [load["pairs"] for load in json.loads(run.read_text())["rounds"]] == [10, 14]
    assert summary["eval/pairs"] == 4
    assert len(directories(tmp_path, "policy")) == 2
    screen = (run.parent / "screen.txt").read_text()
    assert "set/data/train_iteration_2-00000-of-00001.parquet (split train_iteration_2): 14 rows, 14 pairs" in screen
