"""Layers that are computed again in the backward pass: the same gradients to the bit, and only where gradients are asked for."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from dpo_lab.components import ConfigError
from dpo_lab.models.adapter import LoRA
from dpo_lab.models.checkpointing import recompute_layers
from dpo_lab.models.load import evaluating
from dpo_lab.models.spec import PretrainedModel, TinyModel
from dpo_lab.scoring.score import score
from tests.layouts import equality
from tests.layouts.test_equality import ADAPTERS, CONFIGS, LAYOUTS, hand_made, random_model


def counted(policy: nn.Module) -> list[bool]:
    """Return a list that grows with every computation of the first layer: whether gradients were asked for."""
    seen: list[bool] = []
    mlp = next(module for name, module in policy.named_modules() if name.endswith("layers.0.mlp"))
    mlp.register_forward_pre_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    return seen


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_of_every_layout_are_those_without_to_the_bit(name: str, adapter: str) -> None:
    store = hand_made()
    policy = equality.policy_of(random_model(name), ADAPTERS[adapter], torch.float32).train()
    plain = [equality.layout_step(policy, layout, store, range(store.num_pairs)) for layout in LAYOUTS]
    recompute_layers(policy)
    seen = counted(policy)
    for layout, before in zip(LAYOUTS, plain, strict=True):
        seen.clear()
        after = equality.layout_step(policy, layout, store, range(store.num_pairs))
        assert len([each for each in seen if each]) == 2, "once forward, once backward"
        assert after.loss == before.loss
        assert all(torch.equal(gradient, before.gradients[key]) for key, gradient in after.gradients.items()), layout.label


def test_dropout_of_an_adapter_draws_the_same_numbers_again() -> None:
    store = hand_made()
    policy = equality.policy_of(random_model("mistral"), LoRA(rank=4, dropout=0.5), torch.float32).train()
    steps = []
    for again in (False, True):
        if again:
            recompute_layers(policy)
        torch.manual_seed(3)
        steps.append(equality.layout_step(policy, LAYOUTS[2], store, range(4)))
    assert steps[0].gap(steps[1]) == 0


def test_nothing_is_computed_again_without_gradients_or_while_evaluating() -> None:
    store = hand_made()
    policy = random_model("llama").train()
    recompute_layers(policy)
    rows = LAYOUTS[0].rows(store, [0, 1])
    seen = counted(policy)
    with torch.no_grad():
        score(policy, rows)
    with evaluating(policy):
        score(policy, rows).sums.sum()
    assert seen == [False, False]


def test_a_model_that_cannot_is_refused_in_one_line() -> None:
    class Own(nn.Module):
        """A model of no library."""

    with pytest.raises(ConfigError, match=r"^model.checkpointing=true: Own cannot compute its layers again. Leave it out; .*$"):
        recompute_layers(Own())


@pytest.mark.parametrize("model", [TinyModel(), PretrainedModel(path="x/y", licence="mit")], ids=["tiny", "pretrained"])
def test_it_is_no_part_of_what_determines_the_weights(model: Any) -> None:
    again = replace(model, checkpointing=True)
    assert again.content() == model.content()
    if isinstance(model, TinyModel):
        assert again.birth() == model.birth()
