"""References that are the policy's base: exact at step 0, no second model, the trained adapter untouched."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dpo_lab.components import RunError
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.adapter import LoRA, load_adapter, save_adapter
from dpo_lab.models.load import evaluating
from dpo_lab.reference.adapters import AdapterOffReference, PreviousAdapterReference
from dpo_lab.reference.base import Reference, ReferenceModel, ReferenceScorer
from dpo_lab.reference.frozen import FrozenScorer
from dpo_lab.scoring.fitting import Fit
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.module import PreferenceModule
from dpo_lab.training.optim import AdamW

LAYOUT = PaddedLayout()
FIT = Fit(LAYOUT, own_logits=False)


def no_second_model() -> nn.Module:
    raise AssertionError("a second model was loaded")


def scorer_of(reference: Reference, path: Path, store: TokenStore) -> ReferenceScorer:
    return reference.scorer(ReferenceModel(path, no_second_model), store, FIT, root=path, name="r")[0]


def shaken(adapted: nn.Module) -> nn.Module:
    """Return the model with an adapter that is not zero any more."""
    with torch.no_grad():
        for number, (name, weight) in enumerate(adapted.named_parameters()):
            if "lora_B" in name:
                weight.fill_(0.01 * (1 + number % 3))
    return adapted


def trainable(policy: nn.Module) -> set[str]:
    return {name for name, weight in policy.named_parameters() if weight.requires_grad}


@torch.no_grad()
def test_with_the_adapter_off_the_policy_is_its_base_to_the_bit(model: nn.Module, store: TokenStore, tmp_path: Path) -> None:
    batch = LAYOUT.rows(store, [0, 4, 8])
    base = score(model.eval(), batch).per_token
    policy = shaken(LoRA(rank=2, dropout=0.3).attach(model, seed=0)).train()
    scorer = scorer_of(AdapterOffReference(), tmp_path, store)
    before = trainable(policy)
    scorer.follow(policy)
    assert torch.equal(scorer(batch).per_token, base)
    with evaluating(policy):
        assert float((score(policy, batch).per_token - base).abs().max()) > 1e-3  # on again, and at work
    assert policy.training
    assert trainable(policy) == before


def test_the_previous_adapter_stays_what_it_was_while_its_successor_is_trained(
    model: nn.Module, store: TokenStore, tmp_path: Path
) -> None:
    batch = LAYOUT.rows(store, [0, 4, 8])
    first = shaken(LoRA(rank=2).attach(model, seed=0))
    assert save_adapter(first, tmp_path, "base")
    before = score(first, batch).per_token.detach()
    scorer = scorer_of(PreviousAdapterReference(), tmp_path, store)
    scorer.follow(first)
    assert torch.equal(scorer(batch).per_token, before)
    names = trainable(first)
    assert names
    assert not any("reference" in name for name in names)
    with torch.no_grad():
        for name, weight in first.named_parameters():
            if name in names:
                weight.add_(0.01)
    assert torch.equal(scorer(batch).per_token, before)
    assert float((score(first, batch).per_token - before).abs().max()) > 1e-3


@pytest.mark.parametrize("kind", ["previous_adapter", "frozen"])
def test_a_live_reference_has_no_dropout_while_the_policy_is_trained(
    kind: str, model: nn.Module, store: TokenStore, tmp_path: Path
) -> None:
    batch = LAYOUT.rows(store, [0, 4, 8])
    policy = shaken(LoRA(rank=2, dropout=0.5).attach(model, seed=0))
    with evaluating(policy):
        wanted = score(policy, batch).per_token
    assert save_adapter(policy, tmp_path, "base")
    frozen = FrozenScorer(copy.deepcopy(policy).train())
    scorer = frozen if kind == "frozen" else scorer_of(PreviousAdapterReference(), tmp_path, store)
    assert torch.equal(frozen(batch).per_token, wanted)  # before any module has switched it
    scorer.follow(policy)
    module = PreferenceModule(policy, scorer, DPOLoss(), AdamW(), total_steps=1, seed=0).train()
    ours, theirs = module.logps(LAYOUT.items(store, [0, 1]))
    assert torch.equal(scorer(batch).per_token, wanted)
    assert float((ours.sums - theirs.sums).abs().max()) > 1e-3  # the policy's own dropout is at work
    assert policy.training


def test_only_the_trained_adapter_is_saved(model: nn.Module, other_model: nn.Module, store: TokenStore, tmp_path: Path) -> None:
    policy = shaken(LoRA(rank=2).attach(model, seed=0))
    assert save_adapter(policy, tmp_path / "first", "base")
    scorer_of(PreviousAdapterReference(), tmp_path / "first", store).follow(policy)
    assert save_adapter(policy, tmp_path / "second", "base")
    assert {path.name for path in (tmp_path / "second").iterdir()} == {path.name for path in (tmp_path / "first").iterdir()}
    assert load_adapter(other_model, tmp_path / "second")


def test_before_the_first_round_the_previous_adapter_is_none(model: nn.Module, store: TokenStore, tmp_path: Path) -> None:
    batch = LAYOUT.rows(store, [0, 4, 8])
    base = score(model, batch).per_token.detach()
    policy = LoRA(rank=2).attach(model, seed=0)
    scorer = scorer_of(PreviousAdapterReference(), tmp_path, store)
    scorer.follow(policy)
    assert torch.equal(scorer(batch).per_token, base)


def test_a_reference_with_an_adapter_is_not_reached_by_switching_off(model: nn.Module, store: TokenStore, tmp_path: Path) -> None:
    assert save_adapter(LoRA(rank=2).attach(model, seed=0), tmp_path, "base")
    with pytest.raises(RunError, match="Use reference=previous_adapter, or reference=cached"):
        scorer_of(AdapterOffReference(), tmp_path, store)


@pytest.mark.parametrize("reference", [AdapterOffReference(), PreviousAdapterReference()])
def test_the_module_neither_trains_nor_keeps_such_a_reference(
    reference: Reference, model: nn.Module, store: TokenStore, tmp_path: Path
) -> None:
    policy: Any = LoRA(rank=2).attach(model, seed=0)
    scorer = scorer_of(reference, tmp_path, store)
    scorer.follow(policy)
    module = PreferenceModule(policy, scorer, DPOLoss(), AdamW(), total_steps=1, seed=0)
    assert len({id(weight) for weight in module.parameters()}) == len(list(module.parameters()))
    assert not [name for name in module.state_dict() if name.startswith("reference")]
    ours, theirs = module.logps(LAYOUT.items(store, [0, 1]))
    assert float((ours.sums - theirs.sums).abs().max()) == 0.0  # B starts at 0: the same numbers on the same rows
    assert ours.sums.requires_grad
    assert not theirs.sums.requires_grad
