"""Quantised bases: their gradients, their kernels and what they are equal to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from torch import Tensor, nn

from dpo_lab.layouts.base import ItemBatch
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.models.adapter import LoRA
from dpo_lab.models.load import evaluating, load_model, save_model
from dpo_lab.models.quant import EightBit, FourBit, Quant
from dpo_lab.models.spec import TinyModel
from dpo_lab.models.storage import Storage
from dpo_lab.models.tiny import untrained
from dpo_lab.scoring.logps import PairLogps
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.optim import AdamW8bit

KINDS = {"4bit": FourBit(), "8bit": EightBit()}


@pytest.fixture(scope="module")
def directory(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model whose layers are wide enough for blocks of 64 weights, on disk."""
    made = tmp_path_factory.mktemp("model")
    save_model(untrained(TinyModel(hidden_size=64, intermediate_size=128), tokenizer, 0), tokenizer, made, "")
    return made


NF4 = [-1, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0]
NF4 += [0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1]
"""The 16 values of 4-bit NormalFloat (QLoRA, Dettmers et al. 2023, appendix E)."""


def test_4_bit_weights_are_the_nearest_of_nf4s_values_in_blocks_of_64(directory: Path) -> None:
    layer: Any = load_model(str(directory), Storage(FourBit(double=False))).model.get_submodule("model.layers.0.mlp.up_proj")
    plain = load_model(str(directory)).model.get_parameter("model.layers.0.mlp.up_proj.weight").detach().reshape(-1, 64)
    scale = plain.abs().amax(1, keepdim=True)
    nearest = (plain / scale)[..., None].sub(torch.tensor(NF4)).abs().argmin(-1)
    held = dequantize_4bit(layer.weight.data, layer.weight.quant_state).reshape(-1, 64)
    torch.testing.assert_close(held, torch.tensor(NF4)[nearest] * scale, rtol=0, atol=1e-6)


def policy_of(directory: Path, quant: Quant) -> nn.Module:
    """Return the quantised model with an adapter that already does something."""
    policy = LoRA(rank=4).attach(load_model(str(directory), Storage(quant)).model, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in trained(policy):
            weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
    return policy


def trained(policy: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in policy.parameters() if weight.requires_grad]


def logps(policy: nn.Module, batch: ItemBatch) -> Tensor:
    return PairLogps(score(policy, batch.rows), batch.pairs).margin


def gradients(policy: nn.Module, batch: ItemBatch) -> list[Tensor]:
    return list(torch.autograd.grad(-torch.nn.functional.logsigmoid(logps(policy, batch)).mean(), trained(policy)))


def eval_forward(policy: nn.Module, batch: ItemBatch) -> None:
    with evaluating(policy):
        logps(policy, batch)


def generate(policy: Any, batch: ItemBatch) -> None:
    with evaluating(policy):
        policy.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=3, do_sample=False, pad_token_id=0)


@pytest.mark.parametrize("between", [eval_forward, generate])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_same_after_a_forward_in_eval_mode_and_after_a_generation(
    directory: Path, store: TokenStore, kind: str, between: Callable[[nn.Module, ItemBatch], None]
) -> None:
    policy = policy_of(directory, KINDS[kind])
    batch = PaddedLayout().items(store, range(store.num_pairs))
    before = gradients(policy, batch)
    between(policy, batch)
    after = gradients(policy, batch)
    assert min(float(each.abs().max()) for each in before) > 1e-6
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_policy_and_reference_are_scored_by_the_same_kernel(directory: Path, store: TokenStore, kind: str) -> None:
    policy = policy_of(directory, KINDS[kind])
    batch = PaddedLayout().items(store, range(store.num_pairs))
    with torch.no_grad():
        in_training = logps(policy.train(), batch)
    with evaluating(policy):
        assert torch.equal(logps(policy, batch), in_training)


def test_nf4_with_products_in_fp32_is_the_dequantised_model(directory: Path, store: TokenStore) -> None:
    policy = policy_of(directory, FourBit())
    batch = PaddedLayout().items(store, range(store.num_pairs))
    margins, by_weight = logps(policy, batch).detach(), gradients(policy, batch)
    plain: Any = load_model(str(directory), Storage(FourBit())).model
    other = LoRA(rank=4).attach(plain.dequantize(), seed=0)
    other.load_state_dict({name: weight for name, weight in policy.named_parameters() if weight.requires_grad}, strict=False)
    assert float((logps(other, batch).detach() - margins).abs().max()) < 1e-4
    for one, two in zip(by_weight, gradients(other, batch), strict=True):
        assert float((one - two).norm()) < 1e-4 * float(two.norm())
    original = load_model(str(directory)).model  # the quantisation error is real
    assert float((logps(original, batch) - logps(plain, batch)).abs().max()) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_every_linear_layer_but_the_head_is_quantised_and_adapted(directory: Path, kind: str) -> None:
    policy = policy_of(directory, KINDS[kind])
    bits = {"4bit": torch.uint8, "8bit": torch.int8}[kind]
    packed = [name for name, weight in policy.named_parameters() if weight.dtype == bits]
    assert len(packed) == 2 * 7
    assert len(trained(policy)) == 2 * 2 * 7
    assert all(weight.dtype == torch.float32 for weight in trained(policy))


def test_the_state_of_adamw_takes_a_quarter_of_the_memory(directory: Path) -> None:
    model = load_model(str(directory)).model
    optimizer = AdamW8bit(lr=1e-3).optimizer(model.parameters())
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    for weight in model.parameters():
        moments = [optimizer.state[weight][name] for name in ("state1", "state2")]
        assert {moment.dtype for moment in moments} == {torch.uint8 if weight.numel() >= 4096 else torch.float32}
