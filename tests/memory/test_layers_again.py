"""model.checkpointing=auto: the memory plan decides, and an unfinished training keeps the decision it began with."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.data.load import load_pairs
from dpo_lab.memory import check
from dpo_lab.memory.check import as_decided, layers_again, memory_plan, smallest_change, with_layers
from dpo_lab.models.checkpointing import DECISION, decided_once, forget_decision
from dpo_lab.models.load import load_tokenizer
from dpo_lab.stages.train import Train
from dpo_lab.tokens.build import tokenise_items
from dpo_lab.tokens.store import TokenStore
from scripts.bench import memory
from tests.small_stage import MODEL, stage

SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 128,
    "vocab_size": 640,
    "tie_word_embeddings": False,
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Train, TokenStore]:
    monkeypatch.setitem(memory.MODELS, "small", SHAPE)
    memory.make_model(tmp_path / "model", "small")
    memory.make_pairs(tmp_path / "pairs.jsonl", 640, 16)
    words = "adapter=lora data.held_out=0 recipe.max_length=512 model.checkpointing=auto"
    train = memory.training(tmp_path / "model", tmp_path / "pairs.jsonl", words)
    pairs, _ = load_pairs(tmp_path / "pairs.jsonl", max_dropped=0.0)
    tokenizer = load_tokenizer(str(tmp_path / "model"))
    return train, tokenise_items(pairs, tokenizer, max_length=512, truncation="keep_end_prompt").store


@pytest.mark.slow
def test_layers_are_computed_again_only_where_the_plan_does_not_fit_without(run: tuple[Train, TokenStore]) -> None:
    train, store = run
    assert train.model.checkpointing == "auto"
    without, less = (memory_plan(with_layers(train, again=again), store).needed for again in (False, True))
    assert less < without
    again, why = layers_again(train, store, without)
    assert not again
    assert why.startswith("model.checkpointing=auto: false, since the training fits without")
    again, why = layers_again(train, store, without - 1)
    assert again
    assert why.startswith("model.checkpointing=auto: true, ")
    assert " of memory in place of " in why
    planned, plan, lines = as_decided(train, store, without - 1)
    assert planned.model.checkpointing is True
    assert plan.needed == less
    assert lines == [f"layers     {why}"]


def test_what_the_user_decides_is_not_decided_again(run: tuple[Train, TokenStore]) -> None:
    train, store = run
    for own in (True, False):
        assert layers_again(with_layers(train, again=own), store, 0.0) == (own, "")


@pytest.mark.slow
def test_a_model_that_cannot_is_trained_without_and_is_told_another_change(
    run: tuple[Train, TokenStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaForCausalLM

    train, store = run
    monkeypatch.setattr(LlamaForCausalLM, "supports_gradient_checkpointing", False)
    again, why = layers_again(train, store, 0.0)
    assert not again
    assert "false, since this model cannot be planned with it (model.checkpointing=true: LlamaForCausalLM cannot compute" in why
    plain = with_layers(train, again=False)
    assert "checkpointing" not in smallest_change(plain, store, memory_plan(plain, store).needed - 1)


def test_an_unfinished_training_keeps_the_decision_that_it_began_with(tmp_path: Path) -> None:
    said = decided_once(tmp_path, lambda: (True, "model.checkpointing=auto: true, 1 GB"))
    assert said == (True, "model.checkpointing=auto: true, 1 GB")
    later = decided_once(tmp_path, lambda: (False, "model.checkpointing=auto: false, since the training fits without"))
    assert later == (True, "model.checkpointing=auto: true, as this training began")
    assert decided_once(tmp_path, lambda: (False, "")) == (False, "")  # the user's own word counts
    forget_decision(tmp_path)
    assert not (tmp_path / DECISION).exists()


@pytest.mark.slow
def test_a_run_records_the_decision_and_trains_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = stage(tmp_path / "auto")
    small.run()
    auto = replace(small, model=replace(MODEL, checkpointing="auto"), outputs=tmp_path / "again")
    monkeypatch.setattr(check, "layers_again", lambda *_: (True, "model.checkpointing=auto: true, 2 GB in place of 3 GB"))
    monkeypatch.setattr("dpo_lab.pipeline.rounds.layers_again", check.layers_again)
    auto.run()
    assert "model.checkpointing=auto: true, 2 GB in place of 3 GB" in capsys.readouterr().out
    of_runs = []
    for root in ("auto", "again"):
        (policy,) = (tmp_path / root / "policy").glob("[!.]*round2-*")
        assert not (policy / DECISION).exists()
        of_runs.append((policy.name, next(policy.glob("*.safetensors")).read_bytes()))
        manifest = (policy / "manifest.json").read_text()
        assert f'"checkpointing": {"true" if root == "again" else "false"}' in manifest
    assert of_runs[0] == of_runs[1]
