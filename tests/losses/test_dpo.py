"""DPO and what it becomes with noisy or uncertain labels: values by hand, and what must hold for any numbers."""

import math

import pytest
import torch

from dpo_lab.losses.dpo import DPOLoss, RobustDPOLoss, SoftLabelDPOLoss
from dpo_lab.scoring.logps import PairLogps, ResponseLogps, pair_logps
from dpo_lab.tokens.labels import PairLabels


def surprise(logit: float) -> float:
    """Return -log sigmoid(logit)."""
    return math.log(1 + math.exp(-logit))


def test_value_by_hand() -> None:
    # policy margin -2 - -6 = 4, reference margin -2.5 - -5 = 2.5; logit 0.1 * 1.5 = 0.15; -log sigmoid = log(1 + e^-0.15)
    loss = DPOLoss(beta=0.1)(pair_logps(-2.0, -6.0), pair_logps(-2.5, -5.0))
    assert loss.tolist() == pytest.approx([math.log(1 + math.exp(-0.15))], rel=1e-6)


def test_label_smoothing_mixes_the_loss_of_the_flipped_label() -> None:
    policy, reference = pair_logps(-2.0, -6.0), pair_logps(-2.5, -5.0)
    flipped = DPOLoss(beta=0.1)(pair_logps(-6.0, -2.0), pair_logps(-5.0, -2.5))
    mixed = DPOLoss(beta=0.1, label_smoothing=0.2)(policy, reference)
    assert torch.allclose(mixed, 0.8 * DPOLoss(beta=0.1)(policy, reference) + 0.2 * flipped)


def test_length_normalised_dpo_divides_each_log_ratio_by_its_own_number_of_tokens() -> None:
    # chosen 0.5 / 5 tokens = 0.1, rejected -1 / 2 tokens = -0.5; logit 5 * 0.6 = 3
    policy, reference = pair_logps(-2.0, -6.0, tokens=(5, 2)), pair_logps(-2.5, -5.0, tokens=(5, 2))
    assert DPOLoss(beta=5.0, reduction="mean")(policy, reference).tolist() == pytest.approx([surprise(3.0)])


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


def test_robust_dpo_by_hand() -> None:
    # logit 0.2 * 1.5 = 0.3, e = 0.1: [0.9 l(0.3) - 0.1 l(-0.3)] / 0.8, and l(-0.3) = l(0.3) + 0.3
    loss = RobustDPOLoss(beta=0.2, label_smoothing=0.1)(pair_logps(-2.0, -6.0), pair_logps(-2.5, -5.0))
    assert loss.tolist() == pytest.approx([surprise(0.3) - 0.1 * 0.3 / 0.8], rel=1e-6)


def test_robust_dpo_is_the_loss_of_true_labels_on_average_over_flipped_ones() -> None:
    policy, reference = pair_logps([-2.0, -1.0], [-6.0, -9.0]), pair_logps([-2.5, -4.0], [-5.0, -4.0])
    turned = [PairLogps(each.responses, each.pairs.flip(1)) for each in (policy, reference)]
    robust = RobustDPOLoss(beta=0.5, label_smoothing=0.2)
    average = 0.8 * robust(policy, reference) + 0.2 * robust(*turned)
    assert torch.allclose(average, DPOLoss(beta=0.5)(policy, reference))


def labelled(*preferences: float) -> PairLabels:
    """Return labels with these preferences and no scores."""
    unknown = torch.full((len(preferences),), float("nan"))
    return PairLabels(torch.tensor(preferences), unknown, unknown)


def test_soft_labels_are_cdpo_with_a_smoothing_of_each_pairs_own() -> None:
    chosen, rejected = [-2.0, -2.0, -2.0], [-6.0, -6.0, -6.0]
    reference = pair_logps([-2.5] * 3, [-5.0] * 3)
    soft = SoftLabelDPOLoss(beta=0.2)(pair_logps(chosen, rejected, labels=labelled(1.0, 0.9, 0.25)), reference)
    # logit 0.3: e = 0, 0.1, 0.75, each adding e * 0.3 because l(-0.3) = l(0.3) + 0.3
    assert soft.tolist() == pytest.approx([surprise(0.3), surprise(0.3) + 0.03, surprise(0.3) + 0.225], rel=1e-6)


def test_soft_labels_are_met_at_the_log_odds_of_the_preference() -> None:
    # p = 0.8: the smallest cross-entropy is at sigmoid(beta h) = 0.8, h = log 4 / beta
    margin = torch.tensor([math.log(4) / 0.5], dtype=torch.float64, requires_grad=True)
    per_token = torch.cat([margin, torch.zeros(1, dtype=torch.float64)])
    policy = PairLogps(ResponseLogps(per_token, torch.tensor([1, 1])), torch.tensor([[0, 1]]), labelled(0.8))
    SoftLabelDPOLoss(beta=0.5)(policy, pair_logps(0.0, 0.0)).sum().backward()
    assert margin.grad is not None
    assert margin.grad.item() == pytest.approx(0.0, abs=1e-7)  # the label is float32
