"""The stage `train` on quantised bases."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dpo_lab.artifacts import MANIFEST
from dpo_lab.models.adapter import LoRA
from dpo_lab.models.load import save_model
from dpo_lab.models.quant import EightBit, FourBit, NoQuant
from dpo_lab.models.spec import PretrainedModel
from dpo_lab.reference.adapters import AdapterOffReference, PreviousAdapterReference
from dpo_lab.reference.base import Reference
from dpo_lab.reference.cached import CachedReference
from dpo_lab.reference.frozen import FrozenReference
from dpo_lab.training.iteration import Iteration
from dpo_lab.training.optim import AdamW, AdamW8bit
from tests.conftest import small_model
from tests.small_stage import directories, given, pairs_file, stage, with_lora

KINDS = {"4bit": FourBit(), "8bit": EightBit()}


def facts(outputs: Path) -> dict[str, Any]:
    (policy,) = directories(outputs, "policy")
    made: dict[str, Any] = json.loads((outputs / "policy" / policy / MANIFEST).read_text())["facts"]
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("reference", "bound"),
    [(CachedReference(), 1e-3), (AdapterOffReference(), 0.0), (PreviousAdapterReference(), 0.0), (FrozenReference(), 0.0)],
    ids=lambda part: type(part).__name__ if isinstance(part, Reference) else "",
)
def test_before_the_first_step_policy_and_reference_agree_as_in_fp32(
    tmp_path: Path, kind: str, reference: Reference, bound: float
) -> None:
    summary = given(
        tmp_path, pairs_file(tmp_path), model=with_lora(quant=KINDS[kind]), reference=reference, optim=AdamW(lr=1e-2)
    ).run()
    assert facts(tmp_path)["step_0_gap"] <= bound
    assert facts(tmp_path)["loss/first"] == pytest.approx(0.693147, abs=1e-5)
    assert summary["eval/loss"] < summary["eval/loss/before"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_rounds_of_a_quantised_model_keep_one_adapter_on_the_base_as_it_was_on_disk(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stage(tmp_path, model=with_lora(quant=KINDS[kind]), optim=AdamW8bit(lr=1e-2), iteration=Iteration(rounds=2)).run()
    assert f"ranker gold  quant {kind}  adapter lora" in capsys.readouterr().out.splitlines()[0]
    (base,) = directories(tmp_path, "model")
    one, two = directories(tmp_path, "policy")
    for name in (one, two):
        written = json.loads((tmp_path / "policy" / name / "adapter_config.json").read_text())
        assert written["base_model_name_or_path"] == str((tmp_path / "model" / base).resolve())
    first, second = (load_file(tmp_path / "policy" / name / "adapter_model.safetensors") for name in (one, two))
    assert first.keys() == second.keys()
    assert not all(torch.equal(weight, second[name]) for name, weight in first.items())


@pytest.mark.slow
def test_how_a_base_is_held_is_part_of_what_is_made_with_it(tmp_path: Path) -> None:
    path = pairs_file(tmp_path)
    for quant in (NoQuant(), FourBit(), FourBit(double=False), EightBit()):
        given(tmp_path, path, model=with_lora(quant=quant)).run()
    for kind, each in (("policy", 1), ("reference", 2), ("train", 1)):  # the held-out pairs have a reference pass too
        assert len(directories(tmp_path, kind)) == 4 * each
    assert len(directories(tmp_path, "model")) == 1


def test_a_base_in_bf16_has_an_adapter_in_fp32(tmp_path: Path, tokenizer: Any) -> None:
    save_model(small_model(tokenizer), tokenizer, tmp_path / "base", "")
    model = PretrainedModel(path=str(tmp_path / "base"), licence="none", dtype="bf16", adapter=LoRA(rank=4))
    path = pairs_file(tmp_path)
    run = given(tmp_path, path, model=model, optim=AdamW(lr=1e-2))
    assert run.run()["eval/loss"] < 0.69
    assert facts(tmp_path)["step_0_gap"] <= 5e-2
    (policy,) = directories(tmp_path, "policy")
    saved = load_file(tmp_path / "policy" / policy / "adapter_model.safetensors")
    assert {weight.dtype for weight in saved.values()} == {torch.float32}
    replace(run, seed=1).run()  # finds the reference pass again: what the audit allows is what bf16 gives
