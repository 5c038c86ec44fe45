"""The stage `train` on models of several kinds: adapters, directories, number formats."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MixtralConfig, MixtralForCausalLM

from dpo_lab.artifacts import MANIFEST
from dpo_lab.components import ConfigError
from dpo_lab.models.adapter import LoRA, NoAdapter
from dpo_lab.models.load import save_model
from dpo_lab.models.precision import Precision
from dpo_lab.models.spec import PretrainedModel
from dpo_lab.reference.adapters import PreviousAdapterReference
from dpo_lab.reference.frozen import FrozenReference
from dpo_lab.training.iteration import Iteration
from dpo_lab.training.optim import AdamW
from tests.conftest import small_model
from tests.small_stage import directories, given, pairs_file, stage, with_lora


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """A model on disk."""
    directory = tmp_path_factory.mktemp("base")
    save_model(small_model(tokenizer), tokenizer, directory, "")
    return directory


@pytest.mark.slow
def test_lora_over_two_rounds_keeps_one_adapter_that_plain_peft_loads(tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    summary = stage(tmp_path, model=with_lora(), optim=AdamW(lr=1e-2)).run()
    assert summary["kl/round_2"] != summary["kl/round_1"] > 1e-3
    (second,) = (path for path in (tmp_path / "policy").glob("tiny*round2*") if path.is_dir())
    assert (second / "adapter_model.safetensors").exists()
    assert not (second / "model.safetensors").exists()
    loaded = AutoPeftModelForCausalLM.from_pretrained(str(second))
    assert loaded.peft_config["default"].r == 4


@pytest.mark.slow
def test_lora_starts_from_the_seed_alone_whether_the_base_was_made_or_found(tmp_path: Path) -> None:
    # peft draws from torch's global generator, whose state depends on what ran before
    one = stage(tmp_path / "one", model=with_lora(), iteration=Iteration(rounds=1))
    one.run()
    (tmp_path / "two").mkdir()
    shutil.copytree(tmp_path / "one" / "model", tmp_path / "two" / "model")
    replace(one, outputs=tmp_path / "two").run()
    first, second = (
        next(path for path in (tmp_path / name / "policy").glob("tiny*/adapter_model.safetensors")).read_bytes()
        for name in ("one", "two")
    )
    assert first == second


@pytest.mark.slow
def test_adapter_dropout_does_not_stop_the_second_round(tmp_path: Path) -> None:
    summary = stage(tmp_path, model=with_lora(dropout=0.3), optim=AdamW(lr=1e-2)).run()
    assert "kl/round_2" in summary


def test_a_saved_adapter_is_a_model_to_train_on_with_its_own_numbers(tmp_path: Path) -> None:
    path = pairs_file(tmp_path)
    given(tmp_path, path, model=with_lora()).run()
    policy = next(path for path in (tmp_path / "policy").glob("tiny*round1*") if path.is_dir())
    model = PretrainedModel(path=str(policy), licence="none", adapter=LoRA(rank=4))
    assert given(tmp_path, path, model=model).run()["eval/pairs"] == 6
    for adapter, said in ((LoRA(rank=8), "rank=4"), (NoAdapter(), "use adapter=lora")):
        with pytest.raises(ConfigError, match=said):
            given(tmp_path, path, model=replace(model, adapter=adapter)).run()


def test_changed_weights_in_a_directory_are_another_model(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "model")
    run = given(tmp_path, pairs_file(tmp_path), model=PretrainedModel(path=str(tmp_path / "model"), licence="none"))
    run.run()
    weights = load_file(tmp_path / "model" / "model.safetensors")
    save_file({name: 1.5 * value for name, value in weights.items()}, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    run.run()
    assert len(directories(tmp_path, "train")) == 2


def test_bf16_on_a_cpu_scores_the_reference_as_it_trains(tmp_path: Path) -> None:
    given(tmp_path, pairs_file(tmp_path), precision=Precision(mode="bf16-mixed")).run()
    policy = next(path for path in (tmp_path / "policy").glob("tiny*") if path.is_dir())
    facts = json.loads((policy / MANIFEST).read_text())["facts"]
    assert facts["loss/first"] == pytest.approx(0.693147, abs=2e-4)
    assert facts["step_0_gap"] <= 5e-2


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [None, LoRA(rank=4)], ids=["full", "lora"])
def test_bf16_true_over_two_rounds_samples_evaluates_and_saves_in_bf16(tmp_path: Path, adapter: LoRA | None) -> None:
    parts: dict[str, Any] = {"model": with_lora(), "reference": PreviousAdapterReference()} if adapter else {}
    summary = stage(tmp_path, precision=Precision(mode="bf16-true"), optim=AdamW(lr=1e-2), **parts).run()
    assert summary["kl/round_2"] > 1e-3
    saved = sorted((tmp_path / "policy").glob("tiny*/*.safetensors"))
    assert [path.name for path in saved] == ["adapter_model.safetensors" if adapter else "model.safetensors"] * 2
    weights = [load_file(path) for path in saved]
    assert {weight.dtype for each in weights for weight in each.values()} == {torch.bfloat16}
    assert any(not torch.equal(one, other) for one, other in zip(weights[0].values(), weights[1].values(), strict=True))
    for policy in (path.parent for path in saved):
        assert json.loads((policy / MANIFEST).read_text())["facts"]["step_0_gap"] <= (0.0 if adapter else 5e-2)
    model = PretrainedModel(path=str(saved[1].parent), licence="none", adapter=adapter or NoAdapter())
    again = given(tmp_path, pairs_file(tmp_path), model=model)
    assert again.run()["eval/pairs"] == 6, "it is a model to start from, in another number format too"


def test_auto_is_the_run_of_the_format_that_it_comes_to_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpo_lab.models.precision.has_amx", lambda: True)
    path = pairs_file(tmp_path)
    summary = given(tmp_path, path, precision=Precision()).run()
    assert given(tmp_path, path, precision=Precision(mode="bf16-mixed")).run() == summary
    (run,) = (path for path in (tmp_path / "train").glob("tiny*") if path.is_dir())
    (policy,) = (path for path in (tmp_path / "policy").glob("tiny*") if path.is_dir())
    said = "precision bf16-mixed: this CPU has AMX"
    assert (run / "screen.txt").read_text().splitlines()[1] == f"  {said}"
    assert json.loads((run / "run.json").read_text())["precision"] == said
    assert json.loads((policy / MANIFEST).read_text())["facts"]["precision"] == said


def test_a_directory_in_hugging_face_layout_is_a_model(base: Path, tmp_path: Path) -> None:
    model = PretrainedModel(path=str(base), licence="none")
    summary = given(tmp_path, pairs_file(tmp_path), model=model, optim=AdamW(lr=1e-2)).run()
    assert summary["eval/loss"] < summary["eval/loss/before"]


def test_a_model_with_a_jittered_router_starts_as_its_reference_and_says_what_is_off(tokenizer: Any, tmp_path: Path) -> None:
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    config = MixtralConfig(
        **shape, vocab_size=len(tokenizer), num_local_experts=4, router_jitter_noise=0.3, initializer_range=0.3
    )
    torch.manual_seed(0)
    MixtralForCausalLM(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    model = PretrainedModel(path=str(tmp_path / "model"), licence="none")
    given(tmp_path, pairs_file(tmp_path), model=model, reference=FrozenReference()).run()
    (run,) = (path for path in (tmp_path / "train").glob("*") if path.is_dir())
    (policy,) = (path for path in (tmp_path / "policy").glob("*") if path.is_dir())
    assert "MixtralSparseMoeBlock draws random numbers while it is trained: switched off" in (run / "screen.txt").read_text()
    assert json.loads((policy / MANIFEST).read_text())["facts"]["loss/first"] == pytest.approx(math.log(2), abs=1e-5)


def test_a_missing_model_is_named_with_what_to_do(tmp_path: Path) -> None:
    model = PretrainedModel(path=str(tmp_path / "nothing"), licence="none")
    with pytest.raises(ConfigError, match=r"nothing is neither a directory .* nor a Hub id.* Correct model.path"):
        given(tmp_path, pairs_file(tmp_path), model=model).run()
