"""Bits of a training do not depend on what memory held before: nothing is read that was not written."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dpo_lab.layouts.base import Layout
from dpo_lab.layouts.packed import PackedLayout
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.losses.ipo import IPOLoss
from dpo_lab.models.precision import Precision
from dpo_lab.progress import Part
from dpo_lab.reference.frozen import FrozenScorer
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.batches import item_batches
from dpo_lab.training.fit import fit
from dpo_lab.training.module import PreferenceModule
from dpo_lab.training.optim import AdamW
from dpo_lab.training.settings import TrainerSettings


@pytest.fixture
def full_of_nan() -> Iterator[None]:
    """Memory that torch hands out holds NaN, and the largest integers, until it is written."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(before)


def trained(model: nn.Module, other: nn.Module, store: TokenStore, layout: Layout, place: Path) -> list[torch.Tensor]:
    """Return the weights after two steps of three micro-batches or so."""
    policy, scorer, loss = copy.deepcopy(model), FrozenScorer(copy.deepcopy(other)), IPOLoss(beta=0.1, reduction="mean")
    module = PreferenceModule(policy, scorer, loss, AdamW(lr=1e-3), total_steps=2, seed=0)
    batches = item_batches(store, layout, batch_size=6, token_budget=64, epochs=1, seed=0)
    settings = TrainerSettings(accelerator="cpu", batch_size=6, token_budget=64)
    rows: list[Any] = []
    fit(module, batches, settings, Precision(mode="fp32"), part=Part("", 2), directory=place, record=rows.append)
    assert len(rows) == 2
    return [weight.detach() for weight in policy.parameters()]


@pytest.mark.parametrize("layout", [PaddedLayout(), PrefixLayout(), PackedLayout()])
def test_a_training_in_memory_full_of_nan_has_the_same_bits(
    layout: Layout, model: nn.Module, other_model: nn.Module, store: TokenStore, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    plain = trained(model, other_model, store, layout, tmp_path / "plain")
    request.getfixturevalue("full_of_nan")
    again = trained(model, other_model, store, layout, tmp_path / "again")
    assert all(map(torch.equal, plain, again))
    assert not all(map(torch.equal, plain, model.parameters()))
