"""DPO: values worked out by hand, and what must hold for any numbers."""

import math

import pytest
import torch

from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.scoring.logps import PairLogps, ResponseLogps, pair_logps


def test_value_by_hand() -> None:
    # policy margin -2 - -6 = 4, reference margin -2.5 - -5 = 2.5; logit 0.1 * 1.5 = 0.15; -log sigmoid = log(1 + e^-0.15)
    loss = DPOLoss(beta=0.1)(pair_logps(-2.0, -6.0), pair_logps(-2.5, -5.0))
    assert loss.tolist() == pytest.approx([math.log(1 + math.exp(-0.15))], rel=1e-6)


def test_label_smoothing_mixes_the_loss_of_the_flipped_label() -> None:
    policy, reference = pair_logps(-2.0, -6.0), pair_logps(-2.5, -5.0)
    flipped = DPOLoss(beta=0.1)(pair_logps(-6.0, -2.0), pair_logps(-5.0, -2.5))
    mixed = DPOLoss(beta=0.1, label_smoothing=0.2)(policy, reference)
    assert torch.allclose(mixed, 0.8 * DPOLoss(beta=0.1)(policy, reference) + 0.2 * flipped)


def test_at_policy_equal_to_reference_the_loss_is_log_2() -> None:
    same = pair_logps([-3.0, -70.0], [-5.0, -1.0])
    assert torch.equal(DPOLoss(beta=0.3)(same, same), torch.full((2,), 2.0).log())


def test_extreme_margins_have_finite_values_and_gradients() -> None:
    chosen = torch.tensor([-1e4, 0.0], requires_grad=True)
    per_token = torch.cat([chosen, torch.tensor([0.0, -1e4])])
    policy = PairLogps(ResponseLogps(per_token, torch.ones(4, dtype=torch.int64)), torch.tensor([[0, 2], [1, 3]]))
    reference = pair_logps([0.0, 0.0], [0.0, 0.0])
    loss = DPOLoss(beta=1.0)(policy, reference)
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([1e4, 0.0])
    assert chosen.grad is not None
    assert chosen.grad.tolist() == pytest.approx([-1.0, 0.0])
