"""Randomness beside dropout: found in any module, switched off by name, refused where nothing switches it off."""

import copy
import os
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    DbrxConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    OPTConfig,
    PhimoeConfig,
    PreTrainedConfig,
    Qwen2MoeConfig,
    XGLMConfig,
)

from dpo_lab.components import RunError
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.models.adapter import LoRA
from dpo_lab.models.load import evaluating, without_dropout
from dpo_lab.scoring.randomness import without_randomness
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore

SHAPE: dict[str, Any] = {"vocab_size": 256, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
GATED: dict[str, Any] = {**SHAPE, "intermediate_size": 48, "num_key_value_heads": 2, "initializer_range": 0.3}
EXPERTS: dict[str, Any] = {**GATED, "num_local_experts": 4, "num_experts_per_tok": 2}
OPT: dict[str, Any] = {**SHAPE, "ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 64, "init_std": 0.3}
DRAWING: dict[str, tuple[PreTrainedConfig, str]] = {
    "router jitter": (MixtralConfig(**EXPERTS, router_jitter_noise=0.1), "MixtralSparseMoeBlock"),
    "experts that are drawn": (PhimoeConfig(**EXPERTS, router_jitter_noise=0.1), "PhimoeTopKRouter"),
    "jitter under another name": (
        DbrxConfig(
            vocab_size=256,
            d_model=32,
            n_layers=2,
            n_heads=4,
            max_seq_len=64,
            attn_config={"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 1e4},
            ffn_config={"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2, "moe_jitter_eps": 0.1, "hidden_size": 32},
        ),
        "DbrxRouter",
    ),
    "layers that are dropped": (OPTConfig(**OPT, layerdrop=0.3), "OPTDecoder"),
    "layers that are hardly ever dropped": (OPTConfig(**OPT, layerdrop=1e-9), "OPTDecoder"),
    "layers that another model drops": (
        XGLMConfig(vocab_size=256, d_model=32, ffn_dim=48, num_layers=2, attention_heads=4, layerdrop=0.3),
        "XGLMModel",
    ),
}
STEADY: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**GATED),
    "mixtral": MixtralConfig(**EXPERTS),
    "qwen2_moe": Qwen2MoeConfig(**GATED, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16),
    "gpt_neox": GPTNeoXConfig(**SHAPE, intermediate_size=48, max_position_embeddings=64),
}


def built(config: PreTrainedConfig) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(without_dropout(copy.deepcopy(config))).train()


def per_token(model: nn.Module, store: TokenStore) -> Tensor:
    return score(model, PaddedLayout().rows(store, [3, 4])).per_token


def steadied(model: nn.Module, store: TokenStore) -> tuple[str, ...]:
    return without_randomness(model, lambda: per_token(model, store))


@torch.no_grad()
@pytest.mark.parametrize("name", DRAWING)
def test_what_draws_is_switched_off_and_named_and_training_is_what_evaluation_is(name: str, store: TokenStore) -> None:
    config, kind = DRAWING[name]
    model = built(config)
    (note,) = steadied(model, store)
    assert note.startswith(f"{kind} draws random numbers while it is trained: switched off (")
    model.eval()
    model.train()
    before = torch.get_rng_state()
    trained = per_token(model, store)
    assert torch.equal(torch.get_rng_state(), before)
    with evaluating(model):
        assert torch.equal(per_token(model, store), trained)
    assert torch.equal(per_token(copy.deepcopy(model), store), trained)  # a copy draws nothing either


@pytest.mark.parametrize("name", STEADY)
def test_a_model_that_draws_nothing_keeps_every_module_as_it_was(name: str, store: TokenStore) -> None:
    model = built(STEADY[name])
    passes: list[int] = []

    def scored() -> Tensor:
        passes.append(1)
        return per_token(model, store)

    assert without_randomness(model, scored) == ()
    assert len(passes) == 4, "two that agree, and one in each mode"
    assert not [module for module in model.modules() if module._forward_pre_hooks]
    assert all(module.training for module in model.modules())


def test_what_is_switched_off_is_the_drawing_module_and_not_its_children(store: TokenStore) -> None:
    model = built(DRAWING["router jitter"][0])
    (note,) = steadied(model, store)
    assert note.endswith("(model.layers.0.mlp, model.layers.1.mlp)")
    per_token(model, store)
    assert {name for name, module in model.named_modules() if not module.training} == {"model.layers.0.mlp", "model.layers.1.mlp"}


class Noise(nn.Module):
    """A layer's MLP whose output is multiplied by noise of some kind."""

    def __init__(self, inner: nn.Module, draw: Any, *, always: bool = False) -> None:
        super().__init__()
        self.inner, self.draw, self.always = inner, draw, always

    def forward(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.inner(hidden)
        return out * (1 + 1e-4 * self.draw()) if self.training or self.always else out


OWN = torch.Generator().manual_seed(1)
DRAWS = {
    "torch": lambda: torch.rand([]),
    "python": random.random,
    "numpy": np.random.rand,
    "its own generator": lambda: torch.rand([], generator=OWN),
    "the system": lambda: os.urandom(1)[0] / 255,
}


def noisy(draw: Any, *, always: bool = False) -> Any:
    model = built(STEADY["llama"])
    for layer in model.model.layers:
        layer.mlp = Noise(layer.mlp, draw, always=always)
    return model


@torch.no_grad()
@pytest.mark.parametrize("source", DRAWS)
def test_wherever_a_module_draws_from_it_is_found(source: str, store: TokenStore) -> None:
    model = noisy(DRAWS[source])
    (note,) = steadied(model, store)
    assert note == "Noise draws random numbers while it is trained: switched off (model.layers.0.mlp, model.layers.1.mlp)"
    assert torch.equal(per_token(model, store), per_token(model, store))


@pytest.mark.parametrize("source", DRAWS)
def test_what_draws_in_evaluation_mode_too_is_refused_by_name(source: str, store: TokenStore) -> None:
    with pytest.raises(RunError, match=r"also in evaluation mode \(Noise: model.layers.0.mlp, model.layers.1.mlp\)"):
        steadied(noisy(DRAWS[source], always=True), store)


def generators() -> list[Any]:
    numpy: Any = np.random.get_state()
    return [torch.get_rng_state().tolist(), random.getstate(), numpy[1].tolist(), numpy[2:]]


def test_looking_for_draws_moves_no_generator_and_finds_them_in_a_model_in_evaluation_mode_too(store: TokenStore) -> None:
    model = noisy(lambda: torch.rand([]) + random.random() + np.random.rand()).eval()
    before = generators()
    assert len(steadied(model, store)) == 1
    assert generators() == before
    assert not model.training


def test_dropout_that_no_configuration_names_is_switched_off(store: TokenStore) -> None:
    model = built(STEADY["llama"])
    model.model.norm = nn.Sequential(model.model.norm, nn.Dropout(0.5))
    assert steadied(model, store) == ("Dropout draws random numbers while it is trained: switched off (model.norm.1)",)


def test_the_dropout_of_an_adapter_stays(store: TokenStore) -> None:
    adapted = (
        LoRA(rank=2, dropout=0.5, target_modules=("q_proj", "v_proj")).attach(built(DRAWING["router jitter"][0]), seed=0).train()
    )
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.constant_(weight, 0.5)
    (note,) = steadied(adapted, store)
    assert note.startswith("MixtralSparseMoeBlock draws")
    assert not torch.equal(per_token(adapted, store), per_token(adapted, store))


def test_the_probe_leaves_the_random_generators_as_they_were(store: TokenStore) -> None:
    model = noisy(lambda: torch.rand([]) + random.random() + np.random.rand())
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes()  # type: ignore[index]
    steadied(model, store)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == before[1:]  # type: ignore[index]
