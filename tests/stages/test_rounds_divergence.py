"""The divergence of the rounds' table, computed once more with plain transformers alone."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from dpo_lab.tokens.build import tokenise_answers
from dpo_lab.training.optim import AdamW
from tests.small_stage import MODEL, stage

Ids = Sequence[int]


@torch.no_grad()
def divergence_by_hand(policy: Path, other: Path, prompts: Sequence[Ids], answers: Sequence[Sequence[Ids]]) -> float:
    """Return the mean over answers of the sum over tokens of the KL between the next-token distributions of two models."""
    models = [AutoModelForCausalLM.from_pretrained(path).eval() for path in (policy, other)]
    found = []
    for prompt, (drawn,) in zip(prompts, answers, strict=True):
        ids = torch.tensor([[*prompt, *drawn]])
        ours, theirs = (model(ids).logits[0].double().log_softmax(-1) for model in models)
        places = slice(len(prompt) - 1, len(prompt) + len(drawn) - 1)  # each place says what follows it
        found.append(float((ours[places].exp() * (ours[places] - theirs[places])).sum()))
    return sum(found) / len(found)


@pytest.mark.slow
def test_the_divergence_of_every_round_is_the_one_to_the_initial_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[Any, Any]] = []

    def noting(*tokens: Any) -> Any:
        drawn.append(tokens)
        return tokenise_answers(*tokens)

    monkeypatch.setattr("dpo_lab.evaluation.generation.tokenise_answers", noting)
    summary = stage(tmp_path, model=replace(MODEL, sft_examples=120), optim=AdamW(lr=5e-3)).run()
    (initial,) = (path.parent for path in tmp_path.glob("model/*/config.json"))
    (run,) = tmp_path.glob("train/*/run.json")
    rounds = json.loads(run.read_text())["rounds"]
    first, second = (next(tmp_path.glob(f"policy/*-round{number}-*/config.json")).parent for number in (1, 2))
    assert len(drawn) == 3  # before training, and after each round
    for number, policy in ((1, first), (2, second)):
        by_hand = divergence_by_hand(policy, initial, *drawn[number])
        assert summary[f"kl/round_{number}"] == pytest.approx(by_hand, rel=1e-4)
        assert by_hand > 0.01
    assert summary["kl/round_2"] == summary["kl"] != pytest.approx(divergence_by_hand(second, first, *drawn[2]), rel=0.05)
    assert [one_round["kl"] for one_round in rounds] == [summary["kl/round_1"], summary["kl/round_2"]]
