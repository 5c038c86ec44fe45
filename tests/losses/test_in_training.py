"""Every option of conf/loss through the module and the held-out evaluation; whole-step losses for any split."""

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dpo_lab.evaluation.agreement import agreement
from dpo_lab.evaluation.compared import compared_losses
from dpo_lab.evaluation.held_out import held_out_logps
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.bco import BCOLoss
from dpo_lab.losses.options import loss_options
from dpo_lab.models.adapter import Adapter, LoRA, NoAdapter
from dpo_lab.models.load import evaluating
from dpo_lab.reference.frozen import FrozenScorer
from dpo_lab.scoring.fitting import Fit, fitted
from dpo_lab.scoring.logps import PairLogps, pair_logps
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.module import PreferenceModule
from dpo_lab.training.optim import AdamW

LAYOUT = PaddedLayout()
LOSSES = loss_options()
COUPLED = [name for name, loss in LOSSES.items() if loss.couples_pairs]


@pytest.fixture(scope="module")
def labelled(store: TokenStore) -> TokenStore:
    """The twelve pairs with scores and preferences."""
    rising = np.linspace(0.1, 0.9, store.num_pairs).astype(np.float32)
    return replace(
        store,
        preference=rising,
        scores=np.stack([rising + 1, rising / 2], 1).astype(np.float32).ravel(),
    )


def gradients(
    monkeypatch: pytest.MonkeyPatch,
    policy: nn.Module,
    other: nn.Module,
    loss: PreferenceLoss,
    store: TokenStore,
    size: int,
    adapter: Adapter,
) -> tuple[list[Tensor], dict[str, float]]:
    """Return the gradient of a step of all pairs in micro-batches of `size`, and its figures."""
    policy = adapter.attach(copy.deepcopy(policy), seed=0)
    module = PreferenceModule(policy, FrozenScorer(copy.deepcopy(other)), loss, AdamW(lr=1e-3), total_steps=1, seed=0)
    monkeypatch.setattr(module, "manual_backward", lambda value: value.backward())  # there is no Trainer here
    monkeypatch.setattr(module, "_trainer", SimpleNamespace(global_step=0, global_rank=0, strategy=None))
    pairs = list(range(store.num_pairs))
    module.accumulate([LAYOUT.items(store, pairs[start : start + size]) for start in range(0, len(pairs), size)])
    return [weight.grad for weight in policy.parameters() if weight.grad is not None], module.collect()


@pytest.mark.parametrize("name", COUPLED)
@pytest.mark.parametrize("adapter", [NoAdapter(), LoRA(rank=2)], ids=["full", "lora"])
def test_a_loss_of_the_whole_step_does_not_depend_on_its_split(
    monkeypatch: pytest.MonkeyPatch,
    model: nn.Module,
    other_model: nn.Module,
    labelled: TokenStore,
    name: str,
    adapter: Adapter,
) -> None:
    whole, figures = gradients(monkeypatch, model, other_model, LOSSES[name], labelled, 12, adapter)
    for size in (5, 1):
        split, again = gradients(monkeypatch, model, other_model, LOSSES[name], labelled, size, adapter)
        assert again == pytest.approx(figures, rel=1e-4, abs=1e-4)
        for one, other in zip(whole, split, strict=True):
            assert torch.allclose(one, other, rtol=1e-3, atol=1e-5)
    assert max(float(each.abs().max()) for each in whole) > 1e-3


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_option_has_the_same_value_and_gradient_through_chunks_of_the_head(
    monkeypatch: pytest.MonkeyPatch, model: nn.Module, other_model: nn.Module, labelled: TokenStore, name: str
) -> None:
    """Chunks of 5 tokens over packed prompts, against the softmax over all logits of padded rows; float64."""
    monkeypatch.setattr("dpo_lab.scoring.head.CHUNK", 5 * 277)
    prefix, reference = PrefixLayout(), FrozenScorer(other_model.double(), own_logits=True)
    model = model.double()
    found = []
    for layout, own_logits in ((LAYOUT, True), (prefix, False)):
        model.zero_grad()
        fitted(model, layout, labelled)
        batch = layout.items(labelled, range(labelled.num_pairs))
        fixed = reference(LAYOUT.rows(labelled, batch.rows.responses.tolist()))
        full = LOSSES[name].needs_full_softmax
        policy = PairLogps(score(model, batch.rows, own_logits=own_logits, full_softmax=full), batch.pairs, batch.labels.of_pairs)
        losses = LOSSES[name](policy, PairLogps(fixed, batch.pairs))
        losses.sum().backward()
        found.append([losses.detach(), *(weight.grad.clone() for weight in model.parameters() if weight.grad is not None)])
    assert len(found[0]) == 1 + len(list(model.parameters()))
    for one, other in zip(*found, strict=True):
        assert float((one - other).norm()) <= 1e-6 * float(one.norm())
        assert float(one.norm()) > 0


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_option_evaluates_held_out_pairs(model: nn.Module, other_model: nn.Module, labelled: TokenStore, name: str) -> None:
    with evaluating(model):
        full, fit = LOSSES[name].needs_full_softmax, Fit(LAYOUT, own_logits=False)
        logps = held_out_logps(model, FrozenScorer(other_model), labelled, fit, full_softmax=full)
    figures = agreement(*logps, LOSSES[name], has_reference=True).figures
    assert all(np.isfinite(value) for value in figures.values())
    assert {f"eval/losses/{each}" for each in compared_losses(LOSSES[name], has_reference=True)} <= set(figures)


def test_the_shift_of_bco_has_no_gradient() -> None:
    # policy = reference: the shift is 0; the slope of -log sigmoid(beta a - shift) by a is -beta/2 of the pair itself alone
    policy = pair_logps([0.0, 0.0], [0.0, 0.0])
    leaf = policy.responses.per_token.requires_grad_()
    BCOLoss(beta=0.4)(policy, pair_logps([0.0, 0.0], [0.0, 0.0])).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.tolist() == pytest.approx([-0.2, -0.2, 0.2, 0.2])


def test_the_full_softmax_is_taken_only_where_a_loss_reads_it(
    model: nn.Module, other_model: nn.Module, labelled: TokenStore, tmp_path: Path
) -> None:
    for name, wanted in (("dpo", False), ("wpo", True)):
        module = PreferenceModule(model, FrozenScorer(other_model), LOSSES[name], AdamW(), total_steps=1, seed=0)
        policy, _ = module.logps(LAYOUT.items(labelled, [0, 1]))
        assert (policy.responses.log_sum_squares is not None) is wanted
