"""The self-test before the first step: what it lets pass, and what it refuses."""

import copy
import re
from typing import Any

import pytest
import torch
from torch import nn

from dpo_lab.components import RunError
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.precision import Precision
from dpo_lab.reference.base import Reference
from dpo_lab.reference.cached import CachedReference
from dpo_lab.reference.frozen import FrozenReference, FrozenScorer
from dpo_lab.scoring.rounding import beyond
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.module import PreferenceModule
from dpo_lab.training.optim import AdamW
from dpo_lab.training.step_0 import check_step_0

CPU = torch.device("cpu")
LAYOUT = PaddedLayout()


def gap_after(change: float, model: nn.Module, store: TokenStore, reference: Reference, precision: Any = "fp32") -> float:
    """Return what the test says of a policy whose head was scaled, so that its log-probabilities moved a little."""
    fixed = FrozenScorer(copy.deepcopy(model))
    with torch.no_grad():
        model.get_parameter("lm_head.weight").mul_(1 + change)
    module = PreferenceModule(model, fixed, DPOLoss(), AdamW(), total_steps=1, seed=0)
    return check_step_0(module, [LAYOUT.items(store, range(store.num_pairs))], reference, Precision(mode=precision), CPU)


def test_a_reference_of_the_same_kernel_has_to_be_equal_to_the_bit(model: nn.Module, store: TokenStore) -> None:
    assert gap_after(0.0, copy.deepcopy(model), store, FrozenReference()) == 0.0
    with pytest.raises(RunError, match=r"the same model before the first step, yet differ by .* \(allowed 0\)"):
        gap_after(1e-6, model, store, FrozenReference())


def test_a_cached_reference_may_be_a_thousandth_of_a_nat_away(model: nn.Module, store: TokenStore) -> None:
    assert 0 < gap_after(1e-4, copy.deepcopy(model), store, CachedReference()) <= 1e-3
    with pytest.raises(RunError, match=r"yet differ by 1\.\d nats in a response \(allowed 0.001\)"):
        gap_after(0.5, model, store, CachedReference())


def test_in_bf16_the_refused_response_is_said_with_its_own_allowance(model: nn.Module, store: TokenStore) -> None:
    with pytest.raises(RunError) as caught:
        gap_after(8.0, model, store, CachedReference(), "bf16-mixed")
    gap, allowed = (float(number) for number in re.findall(r"differ by (\S+) nats.*allowed ([\d.]+)\)", str(caught.value))[0])
    assert gap > allowed


def test_a_number_that_is_none_is_beyond() -> None:
    assert beyond(torch.tensor([0.0]), torch.tensor([0.0])) is None
    assert str(beyond(torch.tensor([0.0, torch.nan]), torch.tensor([1.0, 0.5]))) == "(nan, 0.5)"
