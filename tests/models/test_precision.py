"""Number formats: what `auto` takes and why, and what is in bf16 in bf16-true and what is not."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.adapted import held_in
from dpo_lab.models.adapter import Adapter, LoRA, NoAdapter
from dpo_lab.models.load import load_model, save_model
from dpo_lab.models.precision import Precision, has_amx
from dpo_lab.models.storage import Storage
from dpo_lab.progress import Part
from dpo_lab.reference.cached import CachedReference, reference_pass
from dpo_lab.scoring.fitting import Fit
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.batches import item_batches
from dpo_lab.training.fit import fit
from dpo_lab.training.module import PreferenceModule
from dpo_lab.training.optim import AdamW
from dpo_lab.training.settings import TrainerSettings
from tests.training.stopping import STEPS, KillAfter, Killed, some_pairs, train

FIT = Fit(PaddedLayout(), own_logits=False)
CPU, GPU = torch.device("cpu"), torch.device("cuda")
AUTO, TRUE, MIXED = Precision(), Precision(mode="bf16-true"), Precision(mode="bf16-mixed")


@pytest.mark.parametrize(
    ("amx", "taken", "said"),
    [
        (True, "bf16-mixed", "precision bf16-mixed: this CPU has AMX"),
        (False, "32-true", "precision fp32: this CPU has no AMX, without which bf16 is slower"),
    ],
)
def test_on_a_cpu_auto_takes_what_is_faster_and_says_why(
    amx: bool, taken: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpo_lab.models.precision.has_amx", lambda: amx)
    assert AUTO.resolved(CPU) == taken
    assert AUTO.explained(CPU) == said
    assert MIXED.explained(CPU) == "precision bf16-mixed: asked for"


@pytest.mark.parametrize(
    ("native", "said"),
    [
        (True, "precision bf16-mixed: NVIDIA H200 computes in it"),
        (False, "precision fp16-mixed: NVIDIA H200 does not compute in bf16"),
    ],
)
def test_on_a_gpu_auto_takes_bf16_where_it_is_not_emulated(native: bool, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # torch's own default counts emulation, which every GPU has
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert AUTO.explained(GPU) == said


def test_a_gpu_that_is_planned_for_and_not_here_is_taken_to_compute_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert AUTO.explained(GPU) == "precision bf16-mixed: a GPU that is not here is taken to compute in it"


@pytest.mark.parametrize("found", [True, False])
def test_amx_is_found_by_torchs_public_name_or_by_the_private_one_before(found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": found, "amx_int8": True}, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: not found, raising=False)
    assert has_amx() is found
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert has_amx() is not found
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert has_amx() is False


def test_a_processor_of_another_kind_lists_no_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"neon": True}, raising=False)
    assert has_amx() is False


def in_bf16(model: nn.Module, tokenizer: Any, directory: Path, adapter: Adapter) -> nn.Module:
    """Return the model as a run with bf16-true trains it."""
    save_model(model, tokenizer, directory, base_path="")
    policy = adapter.attach(load_model(str(directory), Storage(dtype=TRUE.weights)).model, seed=0)
    held_in(policy, TRUE.weights)
    return policy


@pytest.mark.parametrize("adapter", [NoAdapter(), LoRA(rank=2)], ids=["full", "lora"])
def test_in_bf16_true_weights_optimizer_and_forward_are_bf16_and_what_losses_read_is_not(
    model: nn.Module, tokenizer: Any, store: TokenStore, tmp_path: Path, adapter: Adapter
) -> None:
    policy = in_bf16(model, tokenizer, tmp_path / "model", adapter)
    assert {weight.dtype for weight in policy.parameters()} == {torch.bfloat16}
    # rotary frequencies are not weights: rounded, they would shift the positions of long rows
    assert {each.dtype for name, each in policy.named_buffers() if "inv_freq" in name} == {torch.float32}
    reference, _ = reference_pass(policy, store, FIT, CachedReference(), root=tmp_path, name="r")
    batches = item_batches(store, PaddedLayout(), batch_size=8, token_budget=100, epochs=2, seed=0)
    module = PreferenceModule(policy, reference, DPOLoss(), AdamW(lr=1e-2), total_steps=batches.total_steps, seed=0)
    seen: list[torch.dtype] = []
    policy.get_submodule("model" if isinstance(adapter, NoAdapter) else "base_model.model.model").register_forward_hook(
        lambda *call: seen.append(call[2].last_hidden_state.dtype)
    )
    kept: list[Any] = []
    module.on_train_end = lambda: kept.extend(module.trainer.optimizers)  # type: ignore[method-assign]
    per_token, part = reference.per_token.clone(), Part("test", batches.total_steps)
    fit(module, batches, TrainerSettings(accelerator="cpu"), TRUE, part=part, directory=tmp_path)
    assert {weight.dtype for weight in policy.parameters()} == set(seen) == {torch.bfloat16}
    states = [state for state in kept[0].state.values() if state]
    assert {state[name].dtype for state in states for name in ("exp_avg", "exp_avg_sq")} == {torch.bfloat16}
    assert torch.equal(reference.per_token, per_token), "Lightning's own bf16-true rounds it"
    ours, theirs = module.logps(PaddedLayout().items(store, [0, 5]))
    assert ours.sums.dtype == theirs.sums.dtype == module.loss(ours, theirs).dtype == torch.float32


@pytest.mark.parametrize("adapter", [NoAdapter(), LoRA(rank=2, alpha=4)], ids=["full", "lora"])
def test_in_bf16_true_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path, adapter: Adapter) -> None:
    store = some_pairs()
    undisturbed = train(store, tmp_path / "whole", adapter=adapter, precision=TRUE)
    assert {weight.dtype for weight in undisturbed.weights.values()} == {torch.bfloat16}
    for step in (1, STEPS - 2):
        with pytest.raises(Killed):
            train(store, tmp_path / f"killed {step}", KillAfter(step=step), adapter=adapter, precision=TRUE)
        train(store, tmp_path / f"killed {step}", adapter=adapter, precision=TRUE).assert_equals(undisturbed)


def test_the_same_model_in_bf16_true_differs_from_its_cached_reference_by_rounding_alone(
    model: nn.Module, tokenizer: Any, store: TokenStore, tmp_path: Path
) -> None:
    policy = in_bf16(model, tokenizer, tmp_path, NoAdapter())
    cached, _ = reference_pass(policy, store, FIT, CachedReference(), root=tmp_path, name="r")
    module = PreferenceModule(policy, cached, DPOLoss(), AdamW(), total_steps=1, seed=0)
    ours, theirs = module.logps(PaddedLayout().items(store, [7, 1, 4]))
    assert (ours.sums - theirs.sums).abs().max() <= 5e-2
    fp32 = copy.deepcopy(policy).float()
    in_fp32, _ = PreferenceModule(fp32, cached, DPOLoss(), AdamW(), total_steps=1, seed=0).logps(
        PaddedLayout().items(store, [7, 1, 4])
    )
    assert (ours.sums - in_fp32.sums).abs().max() > 1e-3, "it is really computed in bf16"
