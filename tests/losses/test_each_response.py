"""APO, SPPO, NCA, BCO: losses that say where each of the two likelihoods should go, by hand."""

from math import exp, log

import pytest
import torch

from dpo_lab.losses.apo import APODownLoss, APOZeroLoss
from dpo_lab.losses.bco import BCOLoss
from dpo_lab.losses.nca import NCALoss
from dpo_lab.losses.sppo import SPPOHardLoss, SPPOSoftLoss
from dpo_lab.scoring.logps import pair_logps
from dpo_lab.tokens.labels import PairLabels

POLICY, REFERENCE = pair_logps(-2.0, -6.0), pair_logps(-4.0, -5.0)  # log-ratios 2 and -1


def surprise(logit: float) -> float:
    """Return -log sigmoid(logit)."""
    return log(1 + exp(-logit))


def sigmoid(logit: float) -> float:
    """Return 1 / (1 + e^-logit)."""
    return 1 / (1 + exp(-logit))


def test_apo_zero() -> None:
    # rewards 1 and -0.5
    loss = APOZeroLoss(beta=0.5)(POLICY, REFERENCE)
    assert loss.tolist() == pytest.approx([1 - sigmoid(1.0) + sigmoid(-0.5)])


def test_apo_down() -> None:
    # chosen reward 1, margin 1.5
    loss = APODownLoss(beta=0.5)(POLICY, REFERENCE)
    assert loss.tolist() == pytest.approx([sigmoid(1.0) + 1 - sigmoid(1.5)])


def test_nca() -> None:
    loss = NCALoss(beta=0.5)(POLICY, REFERENCE)
    assert loss.tolist() == pytest.approx([surprise(1.0) + 0.5 * surprise(-1.0) + 0.5 * surprise(0.5)])


def test_sppo_with_certain_labels() -> None:
    # targets 1 / (2 * 0.25) = 2 and -2: (2 - 2)^2 + (-1 + 2)^2
    assert SPPOHardLoss(beta=0.25)(POLICY, REFERENCE).tolist() == pytest.approx([1.0])


def labelled(preference: float) -> PairLabels:
    """Return the label of one pair."""
    return PairLabels(*torch.tensor([[preference], [float("nan")], [float("nan")]]))


def test_sppo_with_a_win_probability() -> None:
    # targets (0.75 - 0.5) / 0.25 = 1 and -1: (2 - 1)^2 + (-1 + 1)^2
    policy = pair_logps(-2.0, -6.0, labels=labelled(0.75))
    assert SPPOSoftLoss(beta=0.25)(policy, REFERENCE).tolist() == pytest.approx([1.0])


def test_sppo_with_a_certain_win_is_that_with_certain_labels() -> None:
    policy = pair_logps(-2.0, -6.0, labels=labelled(1.0))
    assert torch.equal(SPPOSoftLoss(beta=0.3)(policy, REFERENCE), SPPOHardLoss(beta=0.3)(policy, REFERENCE))


def test_bco_divides_chosen_from_rejected_at_the_mean_reward_of_the_step() -> None:
    # chosen log-ratios 2 and 4, rejected -1 and 1: rewards 1, 2, -0.5, 0.5, mean 0.75
    policy, reference = pair_logps([-2.0, -1.0], [-6.0, -3.0]), pair_logps([-4.0, -5.0], [-5.0, -4.0])
    by_hand = [surprise(0.25) + surprise(1.25), surprise(1.25) + surprise(0.25)]
    assert BCOLoss(beta=0.5)(policy, reference).tolist() == pytest.approx(by_hand)


def test_bco_without_shift_divides_at_zero() -> None:
    assert BCOLoss(beta=0.5, shift="zero")(POLICY, REFERENCE).tolist() == pytest.approx([surprise(1.0) + surprise(0.5)])
    assert [BCOLoss(shift="zero").couples_pairs, BCOLoss().couples_pairs] == [False, True]


def test_no_gradient_flows_through_the_shift_of_bco() -> None:
    policy, reference = pair_logps([-2.0, -1.0], [-6.0, -3.0]), pair_logps([-4.0, -5.0], [-5.0, -4.0])
    leaf = policy.responses.per_token.requires_grad_()
    (gradient,) = torch.autograd.grad(BCOLoss(beta=0.5)(policy, reference).sum(), leaf)
    # of a chosen response -beta sigmoid(-(reward - shift)): rewards 1 and 2, shift 0.75
    assert gradient[:2].tolist() == pytest.approx([-0.5 * sigmoid(-0.25), -0.5 * sigmoid(-1.25)])
