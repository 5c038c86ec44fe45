"""Layers that are linear by their class alone, as routers are that give two results, are refused by name before training."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dpo_lab.components import ConfigError
from dpo_lab.models.adapter import LoRA
from tests.models.test_adapter import IDS, qwen


class Doubled(nn.Linear):
    """A linear layer that scales what it gives, as one with a forward pass of its own may."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that torch gives it
        return 2 * super().forward(input)


class Unknown(nn.Linear):
    """One that needs more than its input."""

    def forward(self, input: Tensor, more: Tensor) -> Tensor:  # type: ignore[override]  # noqa: A002
        return super().forward(input) + more


def llama4() -> Any:
    """Return a random text model of Llama-4, of 2 layers."""
    from transformers import AutoModelForCausalLM, Llama4TextConfig

    torch.manual_seed(0)
    sizes: dict[str, int] = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "intermediate_size_mlp": 48}
    heads: dict[str, int] = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "num_local_experts": 2}
    return AutoModelForCausalLM.from_config(Llama4TextConfig(**sizes, **heads, num_hidden_layers=2))  # type: ignore[arg-type]


def test_a_router_of_two_results_is_refused_by_name_and_what_is_shown_adapts_the_rest() -> None:
    with pytest.raises(ConfigError, match=r"cannot adapt Llama4Router \(model.layers.0.feed_forward.router\)") as caught:
        LoRA(rank=2).attach(llama4(), seed=0)
    shown = re.search(r"adapter.target_modules=\[([\w,]+)\]', or adapter=none", str(caught.value))
    assert shown
    targets = tuple(shown[1].split(","))
    assert {"q_proj", "v_proj"} <= set(targets)
    assert "router" not in targets
    adapted: Any = LoRA(rank=2, target_modules=targets).attach(llama4(), seed=0)
    assert torch.equal(adapted(IDS).logits, llama4()(IDS).logits)


@pytest.mark.parametrize(("kind", "refused"), [(Doubled, False), (Unknown, True)])
def test_a_linear_layer_with_a_forward_pass_of_its_own_is_tried(kind: type[nn.Linear], refused: bool) -> None:
    model = qwen(tied=False)
    model.model.layers[1].mlp.down_proj = kind(24, 16, bias=False)
    if refused:
        with pytest.raises(ConfigError, match=r"Unknown \(model.layers.1.mlp.down_proj\)"):
            LoRA(rank=2).attach(model, seed=0)
    else:
        LoRA(rank=2).attach(model, seed=0)
