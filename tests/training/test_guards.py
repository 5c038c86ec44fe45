"""A step that is not finite changes nothing, leaves its batch behind, and the message names the likely cause."""

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import MistralConfig, MistralForCausalLM

from dpo_lab.components import RunError, component
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.precision import Precision
from dpo_lab.progress import Part
from dpo_lab.reference.base import ReferenceScorer
from dpo_lab.reference.frozen import FrozenScorer
from dpo_lab.scoring.logps import PairLogps
from dpo_lab.tokens.store import StoreBuilder, TokenStore
from dpo_lab.training.batches import item_batches
from dpo_lab.training.fit import fit
from dpo_lab.training.module import PreferenceModule
from dpo_lab.training.optim import AdamW
from dpo_lab.training.settings import TrainerSettings


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 1}
    made: nn.Module = MistralForCausalLM(MistralConfig(vocab_size=64, num_hidden_layers=1, **sizes))
    return made


def store() -> TokenStore:
    builder = StoreBuilder()
    for number in range(4):
        chosen, rejected = (builder.add_response([5, 6, 7 + number], [8 + number, last]) for last in (20, 30))
        builder.add_item([chosen, rejected])
    return builder.build()


@component
class Overflowing(DPOLoss):
    """A loss that is infinite in its second step."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        losses = super().__call__(policy, reference)
        return losses * (math.inf if float((policy.margin - reference.margin).abs().max()) > 1e-6 else 1.0)


class GradientOverflow(torch.autograd.Function):
    """Passes values on, and an infinite gradient back."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * math.inf


@component
class SteepLoss(DPOLoss):
    """A finite loss with an infinite gradient."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        losses: Tensor = GradientOverflow.apply(super().__call__(policy, reference))  # type: ignore[no-untyped-call]
        return losses


def describe(pairs: Sequence[int]) -> list[dict[str, Any]]:
    return [{"prompt": f"prompt {pair}"} for pair in pairs]


def run(model: nn.Module, directory: Path, *, loss: DPOLoss, reference: ReferenceScorer) -> tuple[str, list[dict[str, Any]]]:
    """Train until it stops; return the message and what is written."""
    batches = item_batches(store(), PaddedLayout(), batch_size=2, token_budget=8, epochs=1, seed=0)
    module = PreferenceModule(model, reference, loss, AdamW(lr=1e-2), total_steps=2, seed=0)
    before: list[dict[str, Tensor]] = []
    whole = module.accumulate

    def accumulate(step: Sequence[Any]) -> None:
        before.append({name: tensor.clone() for name, tensor in module.state_dict().items()})
        whole(step)

    module.accumulate = accumulate  # type: ignore[method-assign]
    settings = TrainerSettings(accelerator="cpu", batch_size=2)
    part = Part("test", 2)
    with pytest.raises(RunError) as error:
        fit(module, batches, settings, Precision(mode="fp32"), part=part, directory=directory, describe=describe)
    after = module.state_dict()
    assert all(torch.equal(tensor, after[name]) or bool(tensor.isnan().any()) for name, tensor in before[-1].items())
    (path,) = directory.glob("not_finite_step_*.jsonl")
    assert str(path) in str(error.value)
    return str(error.value), [json.loads(line) for line in path.read_text().splitlines()]


def copy_of(model: nn.Module) -> FrozenScorer:
    return FrozenScorer(copy.deepcopy(model))


def test_a_loss_that_overflows_is_named_with_its_pairs(model: nn.Module, tmp_path: Path) -> None:
    message, pairs = run(model, tmp_path, loss=Overflowing(beta=1.0), reference=copy_of(model))
    assert message.startswith("step 2: the gradient is not finite")
    assert "the weights were not changed" in message
    assert "use a smaller beta" in message
    assert len(pairs) == 2, "the pairs of the step, not of one micro-batch"
    assert {pair["prompt"] for pair in pairs} == {f"prompt {pair['pair']}" for pair in pairs}
    assert all(pair["loss"] == "inf" and isinstance(pair["logps/policy/chosen"], float) for pair in pairs)


def test_a_damaged_model_is_named_with_the_weight(model: nn.Module, tmp_path: Path) -> None:
    reference = copy_of(model)
    model.get_parameter("model.layers.0.mlp.up_proj.weight").data[0, 0] = math.nan
    message, pairs = run(model, tmp_path, loss=DPOLoss(beta=1.0), reference=reference)
    assert "model.layers.0.mlp.up_proj.weight" in message
    assert pairs[0]["logps/policy/chosen"] == "nan"


def test_a_reference_that_is_not_finite_is_named(model: nn.Module, tmp_path: Path) -> None:
    reference = copy_of(model)
    reference.model.get_parameter("lm_head.weight").data[0, 0] = math.inf
    message, _ = run(model, tmp_path, loss=DPOLoss(beta=1.0), reference=reference)
    assert "The reference's log-probabilities are not finite" in message


def test_a_gradient_that_overflows_alone_is_told_from_a_loss_that_does(model: nn.Module, tmp_path: Path) -> None:
    message, pairs = run(model, tmp_path, loss=SteepLoss(beta=1.0), reference=copy_of(model))
    assert "the gradient overflowed on its way back" in message
    assert all(math.isfinite(pair["loss"]) for pair in pairs)
