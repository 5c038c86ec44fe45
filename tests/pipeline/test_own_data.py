"""Data of a user's own, neither given nor on-policy: run, shown and found again as the project's own are."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from dpo_lab.artifacts import Plan
from dpo_lab.components import RunError, component
from dpo_lab.data.base import Data, Order, PairRequest, RoundPairs, Truncation
from dpo_lab.models.load import save_model
from dpo_lab.models.spec import PretrainedModel
from dpo_lab.records import PreferencePair, Prompt, read_jsonl, write_jsonl
from tests.small_stage import given


@component
class Sums(Data):
    """Sums that are right against sums that are wrong, other ones in each round."""

    count: int = 16
    label: str = "sums"
    max_length: int = 64
    truncation: Truncation = "error"
    order: Order = "as_given"

    def pairs(self, asked: PairRequest) -> RoundPairs:
        """Return sums as an artifact, made from the policy."""

        def produce(directory: Path) -> dict[str, Any]:
            numbers = range(100 * asked.number, 100 * asked.number + self.count)
            pairs = (PreferencePair(prompt=Prompt.from_text(f"{n} + 1?"), chosen=f" {n + 1}", rejected=f" {n}") for n in numbers)
            return {"pairs": write_jsonl(directory / "sums.jsonl", (pair.to_record("train") for pair in pairs))}

        content = {"round": asked.number, "policy": asked.policy.id, "count": self.count}
        artifact = Plan(asked.root, "sums", asked.name, content, parents=[asked.policy.id]).make(produce, force=asked.force)
        pairs = [PreferencePair.from_record(record) for record in read_jsonl(artifact.path / "sums.jsonl")]
        origin = f"counted to {asked.number}{self.count:02}"
        return RoundPairs(train=pairs[4:], held_out=pairs[:4], origin=origin, artifacts=(artifact,))


@pytest.fixture
def base(model: nn.Module, tokenizer: Any, tmp_path: Path) -> PretrainedModel:
    save_model(model, tokenizer, tmp_path / "base", base_path="")
    return PretrainedModel(path=str(tmp_path / "base"), licence="none")


def test_data_of_ones_own_are_trained_on_evaluated_on_and_shown(base: PretrainedModel, tmp_path: Path) -> None:
    run = given(tmp_path, tmp_path, data=Sums(), model=base)
    summary = run.run()
    assert summary["eval/pairs"] == 4
    (directory,) = (path for path in (tmp_path / "train").iterdir() if path.is_dir())
    assert "counted to 116" in (directory / "screen.txt").read_text()
    record = json.loads((directory / "run.json").read_text())
    assert record["rounds"][0]["pairs"] == 12
    assert next(parent["kind"] for parent in record["lineage"]) == "sums"
    assert given(tmp_path, tmp_path, data=Sums(), model=base).run() == summary


def test_a_round_without_pairs_is_said(base: PretrainedModel, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="round 1: data=sums has no pairs to train on"):
        given(tmp_path, tmp_path, data=Sums(count=4), model=base).run()
