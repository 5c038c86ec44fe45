"""SimPO, ORPO, CPO and supervised fine-tuning: losses without a reference, by hand."""

from math import exp, log

import pytest

from dpo_lab.losses.cpo import CPOLoss
from dpo_lab.losses.nll import NLLLoss
from dpo_lab.losses.orpo import LARGEST_MEAN, ORPOLoss
from dpo_lab.losses.simpo import SimPOLoss
from dpo_lab.scoring.logps import pair_logps

NOTHING = pair_logps(0.0, 0.0)


def surprise(logit: float) -> float:
    """Return -log sigmoid(logit)."""
    return log(1 + exp(-logit))


def test_simpo_compares_means_over_tokens_with_a_target_margin() -> None:
    # means -1.5 and -2: 2 * 0.5 - 1.4 = -0.4
    policy = pair_logps(-6.0, -4.0, tokens=(4, 2))
    assert SimPOLoss(beta=2.0, gamma=1.4)(policy, NOTHING).tolist() == pytest.approx([surprise(-0.4)])


def test_label_smoothing_of_simpo_keeps_the_target_margin_in_both_terms() -> None:
    # as in the authors' code: 0.9 l(-0.4) + 0.1 l(0.4)
    policy = pair_logps(-6.0, -4.0, tokens=(4, 2))
    loss = SimPOLoss(beta=2.0, gamma=1.4, label_smoothing=0.1)(policy, NOTHING)
    assert loss.tolist() == pytest.approx([0.9 * surprise(-0.4) + 0.1 * surprise(0.4)])


def test_orpo_is_the_likelihood_and_the_log_odds_ratio_of_mean_probabilities() -> None:
    # means log 1/2 and log 1/4: odds 1 and 1/3, log ratio log 3, sigmoid 3/4; log 2 - 0.5 log(3/4)
    policy = pair_logps(3 * log(1 / 2), 2 * log(1 / 4), tokens=(3, 2))
    assert ORPOLoss(beta=0.5)(policy, NOTHING).tolist() == pytest.approx([log(2) - 0.5 * log(3 / 4)], rel=1e-6)


def test_the_odds_of_a_certain_response_are_those_of_a_mean_of_a_millionth_of_a_nat() -> None:
    # p = 1 - 1e-6: odds 1e6; against odds 1 the second term is beta log(1 + 1e-6)
    assert LARGEST_MEAN == -1e-6
    assert ORPOLoss(beta=1.0)(pair_logps(log(1 / 2), 0.0), NOTHING).tolist() == pytest.approx([log(2) + log(1e6 + 1)], rel=1e-6)


def test_cpo_is_a_contrast_and_a_likelihood_per_token() -> None:
    # margin 4, beta 0.1: l(0.4); chosen -2 over 4 tokens, half weight: 0.25
    policy = pair_logps(-2.0, -6.0, tokens=(4, 3))
    assert CPOLoss(beta=0.1, nll_weight=0.5)(policy, NOTHING).tolist() == pytest.approx([surprise(0.4) + 0.25])


def test_other_links_of_cpo() -> None:
    policy = pair_logps(-2.0, -6.0)
    # hinge 1 - 0.1 * 4; squared (4 - 1 / 0.2)^2
    assert CPOLoss(beta=0.1, nll_weight=0.0, link="hinge")(policy, NOTHING).tolist() == pytest.approx([0.6])
    assert CPOLoss(beta=0.1, nll_weight=0.0, link="squared")(policy, NOTHING).tolist() == pytest.approx([1.0])


def test_the_three_normalisers_of_the_likelihood() -> None:
    policy = pair_logps([-6.0, -1.0], [-9.0, -9.0], tokens=(4, 1))
    assert NLLLoss(reduction="sum")(policy, policy).tolist() == [6.0, 1.0]
    assert NLLLoss(reduction="mean")(policy, policy).tolist() == [1.5, 0.25]
    # 7 nats over the 8 chosen tokens of the step, as the mean of two values
    assert NLLLoss(reduction="step")(policy, policy).mean().item() == 7 / 8


def test_only_the_normaliser_of_the_step_couples_pairs() -> None:
    assert [NLLLoss(reduction="step").couples_pairs, NLLLoss().couples_pairs] == [True, False]
