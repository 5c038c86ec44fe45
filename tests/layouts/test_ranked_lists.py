"""Ranked lists of several lengths through the store, the layouts and a step: the same loss and gradient whatever the layout."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, MistralConfig

from dpo_lab.layouts.base import Layout
from dpo_lab.layouts.packed import PackedLayout
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.losses.plackett_luce import PlackettLuceLoss
from dpo_lab.reference.frozen import FrozenScorer
from dpo_lab.scoring.fitting import fitted, made_ready
from dpo_lab.tokens.store import StoreBuilder, TokenStore
from dpo_lab.training.batches import item_batches
from dpo_lab.training.module import PreferenceModule
from dpo_lab.training.optim import AdamW

LENGTHS = (3, 2, 5, 4)
BETA = 0.5


def store_of_lists() -> TokenStore:
    """Return lists of several lengths, one of them a pair."""
    builder, draw = StoreBuilder(), torch.Generator().manual_seed(0)
    for number, length in enumerate(LENGTHS):
        prompt = torch.randint(5, 90, (3 + number,), generator=draw).tolist()
        answers = [torch.randint(5, 90, (2 + at,), generator=draw).tolist() for at in range(length)]
        builder.add_item([builder.add_response(prompt, answer) for answer in answers])
    return builder.build()


def a_model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    model: nn.Module = AutoModelForCausalLM.from_config(MistralConfig(vocab_size=100, sliding_window=None, **shape))
    return model


def gradients(layout: Layout, token_budget: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Return the gradient of one step over all lists."""
    policy, store = a_model(0), store_of_lists()
    how = fitted(policy, layout, store)
    reference = FrozenScorer(made_ready(a_model(1), how, store))
    module = PreferenceModule(policy, reference, PlackettLuceLoss(beta=BETA), AdamW(), total_steps=1, seed=0)
    monkeypatch.setattr(module, "manual_backward", lambda value: value.backward())  # there is no Trainer here
    step = item_batches(store, how.layout, batch_size=4, token_budget=token_budget, epochs=1, seed=0).first_step()
    module.accumulate(step)
    return {name: weight.grad.clone() for name, weight in policy.named_parameters() if weight.grad is not None}


def naive_gradients() -> dict[str, Tensor]:
    """Return the same by the definition: every response alone, the probability of each place among those that are left."""
    policy, reference, store = a_model(0), copy.deepcopy(a_model(1)), store_of_lists()

    def logp(model: nn.Module, response: int) -> Tensor:
        prompt, answer = store.prompt_of(response).tolist(), store.response(response).tolist()
        logits = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        return torch.stack([logits[len(prompt) - 1 + at, token] for at, token in enumerate(answer)]).sum()

    total = torch.zeros(())
    for item in range(store.num_items):
        responses = store.responses_of([item]).tolist()
        rewards = torch.stack([BETA * (logp(policy, each) - logp(reference, each).detach()) for each in responses])
        total = total - sum(rewards[at] - rewards[at:].logsumexp(0) for at in range(len(responses)))
    (total / store.num_items).backward()
    return {name: weight.grad.clone() for name, weight in policy.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("token_budget", [10_000, 30])
@pytest.mark.parametrize("layout", [PaddedLayout(), PackedLayout(), PrefixLayout()], ids=lambda each: each.label)
def test_every_layout_and_split_has_the_gradient_of_the_definition(
    layout: Layout, token_budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, found = naive_gradients(), gradients(layout, token_budget, monkeypatch)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        assert float((gradient - found[name]).norm()) <= 1e-4 * float(gradient.norm()) > 0, name
