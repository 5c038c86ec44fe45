"""Adapters on bases in bf16 and in 4 bits: what is trained is float32, and begins as the base."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dpo_lab.components import ConfigError
from dpo_lab.models.adapted import REFERENCE, TRAINED, AdapterSwitch
from dpo_lab.models.adapter import LoRA, add_reference_adapter, save_adapter
from dpo_lab.models.load import load_model, save_model
from dpo_lab.models.quant import FourBit, NoQuant, Quant
from dpo_lab.models.spec import TinyModel
from dpo_lab.models.storage import Storage
from dpo_lab.models.tiny import untrained
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore
from tests.models.test_adapter import IDS, LAYOUT, shaken


def held(directory: Path, tokenizer: Any, quant: Quant) -> Any:
    """Return a random model with layers of 64 as a run in bf16 holds it."""
    save_model(untrained(TinyModel(hidden_size=64, intermediate_size=128), tokenizer, 0), tokenizer, directory, "")
    return load_model(str(directory), Storage(quant, torch.bfloat16)).model


@torch.no_grad()
@pytest.mark.parametrize("quant", [NoQuant(), FourBit()], ids=["bf16", "4bit"])
@pytest.mark.parametrize("saved", [(), ("embed_tokens", "norm"), ("lm_head",)], ids=str)
def test_on_a_base_in_half_precision_all_that_is_trained_is_float32_and_begins_as_the_base_to_the_bit(
    saved: tuple[str, ...], quant: Quant, tokenizer: Any, store: TokenStore, tmp_path: Path
) -> None:
    model, batch = held(tmp_path / "base", tokenizer, quant), LAYOUT.rows(store, [0, 4, 8])

    def logps(policy: nn.Module, name: str = TRAINED) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16), AdapterSwitch(policy, name)() if policy is not model else nullcontext():
            return score(policy, batch).per_token

    base = logps(model)
    policy = LoRA(rank=4, dora=True, modules_to_save=saved).attach(model, seed=0)
    assert torch.equal(logps(policy), base)
    shaken(policy)
    add_reference_adapter(policy, None)
    assert torch.equal(logps(policy, REFERENCE), base)
    now = logps(policy)
    assert not torch.equal(now, base)
    assert save_adapter(policy, tmp_path / "saved", str(tmp_path / "base"))
    again = load_model(str(tmp_path / "saved"), Storage(quant, torch.bfloat16)).model
    add_reference_adapter(again, tmp_path / "saved")
    assert torch.equal(logps(again), now)
    assert torch.equal(logps(again, REFERENCE), now)
    weights = dict(policy.named_parameters())
    for name, weight in again.named_parameters():
        if weight.requires_grad:
            assert weight.dtype == torch.float32
            assert torch.equal(weight, weights[name])


@torch.no_grad()
def test_a_copy_of_the_head_in_float32_reads_hidden_states_in_half_precision(tokenizer: Any, tmp_path: Path) -> None:
    model = held(tmp_path, tokenizer, NoQuant())
    base = model(IDS).logits  # as sampling does, without autocast
    policy: Any = LoRA(rank=4, modules_to_save=("lm_head", "norm", "gate_proj")).attach(model, seed=0)
    logits = policy(IDS).logits
    assert logits.dtype == base.dtype == torch.bfloat16
    assert float((logits - base).float().norm()) <= 1e-2 * float(base.float().norm())


def test_quantised_modules_are_not_trained_in_full(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"adapter.modules_to_save=q_proj: its weights are quantised and have no gradient"):
        LoRA(modules_to_save=("q_proj",)).attach(held(tmp_path, tokenizer, FourBit()), seed=0)
