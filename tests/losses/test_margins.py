"""DPOP, ODPO, hinge, EXO, DiscoPOP, AOT: other functions of the margin, by hand."""

from math import exp, log
from typing import Any

import pytest
import torch

from dpo_lab.losses.aot import AOTLoss, AOTUnpairedLoss
from dpo_lab.losses.discopop import DiscoPOPLoss
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.losses.dpop import DPOPLoss
from dpo_lab.losses.exo import EXOLoss
from dpo_lab.losses.gpo import GPOLoss
from dpo_lab.losses.hinge import HingeLoss
from dpo_lab.losses.odpo import ODPOLoss
from dpo_lab.scoring.logps import PairLogps, pair_logps
from dpo_lab.tokens.labels import PairLabels

POLICY, REFERENCE = pair_logps(-2.0, -6.0), pair_logps(-2.5, -5.0)  # log-ratios 0.5 and -1, margin 1.5


def surprise(logit: float) -> float:
    """Return -log sigmoid(logit)."""
    return log(1 + exp(-logit))


def test_dpop_is_dpo_while_the_chosen_response_is_at_least_as_likely_as_under_the_reference() -> None:
    assert torch.equal(DPOPLoss(beta=0.2)(POLICY, REFERENCE), DPOLoss(beta=0.2)(POLICY, REFERENCE))


def test_dpop_charges_what_the_chosen_response_lost() -> None:
    # log-ratios -0.5 and -3: 0.2 * (2.5 - 5 * 0.5) = 0
    loss = DPOPLoss(beta=0.2, penalty=5.0)(pair_logps(-3.0, -8.0), pair_logps(-2.5, -5.0))
    assert loss.tolist() == pytest.approx([log(2)])


def scored(chosen: float, rejected: float) -> PairLogps:
    """Return the policy with scores of its pair."""
    return pair_logps(-2.0, -6.0, labels=PairLabels(*torch.tensor([[float("nan")], [chosen], [rejected]])))


def test_the_offset_of_odpo_is_the_log_of_the_difference_of_scores() -> None:
    # 0.2 * 1.5 - 0.5 log 4
    loss = ODPOLoss(beta=0.2, alpha=0.5)(scored(5.0, 1.0), REFERENCE)
    assert loss.tolist() == pytest.approx([surprise(0.3 - 0.5 * log(4))])


def test_the_offset_of_odpo_may_be_the_difference_itself() -> None:
    loss = ODPOLoss(beta=0.2, alpha=0.5, scaling="linear")(scored(5.0, 1.0), REFERENCE)
    assert loss.tolist() == pytest.approx([surprise(0.3 - 0.5 * 4)])


@pytest.mark.parametrize(("chosen", "rejected"), [(1.0, 1.0), (1.0, 3.0)])
def test_a_pair_whose_scores_do_not_agree_with_its_order_asks_nothing_of_odpo(chosen: float, rejected: float) -> None:
    assert ODPOLoss(beta=0.2)(scored(chosen, rejected), REFERENCE).tolist() == pytest.approx([0.0], abs=1e-30)


def test_hinge_stops_at_one_over_beta() -> None:
    loss = HingeLoss(beta=0.5)(pair_logps([-2.0, -2.0], [-6.0, -9.0]), pair_logps([-2.5, -2.5], [-5.0, -5.0]))
    assert loss.tolist() == pytest.approx([0.25, 0.0])  # margins 1.5 and 4.5


LINKS_BY_HAND: dict[str, list[float]] = {  # margins of 4 and -4 nats at beta 1/2
    "logistic": [log(1 + exp(-2)), log(1 + exp(2))],
    "hinge": [0.0, 3.0],
    "squared": [(4 - 1) ** 2, (-4 - 1) ** 2],
}


@pytest.mark.parametrize(("reduction", "tokens"), [("sum", (1, 1)), ("mean", (1, 1)), ("mean", (5, 2))])
@pytest.mark.parametrize("link", LINKS_BY_HAND)
def test_gpo_takes_every_link_of_a_margin_of_sums_or_of_means(link: Any, reduction: Any, tokens: tuple[int, int]) -> None:
    policy = pair_logps([-2.0 * tokens[0]] * 2, [-6.0 * tokens[1], 2.0 * tokens[1]], tokens)
    zero = pair_logps([0.0, 0.0], [0.0, 0.0], tokens)
    near, far = LINKS_BY_HAND[link]
    clean = GPOLoss(beta=0.5, link=link, reduction=reduction)
    noisy = GPOLoss(beta=0.5, link=link, reduction=reduction, label_smoothing=0.25)
    assert clean(policy, zero).tolist() == pytest.approx([near, far], rel=1e-6)
    assert noisy(policy, zero).tolist() == pytest.approx([0.75 * near + 0.25 * far, 0.75 * far + 0.25 * near], rel=1e-6)


def test_exo_is_the_divergence_of_the_policys_preference_from_the_label() -> None:
    # h = 1.5, beta = log 3 / 1.5: q = 3/4; e = 1/10
    loss = EXOLoss(beta=log(3) / 1.5, label_smoothing=0.1)(POLICY, REFERENCE)
    assert loss.tolist() == pytest.approx([0.75 * log(0.75 / 0.9) + 0.25 * log(0.25 / 0.1)], rel=1e-6)


def test_discopop_blends_a_logistic_and_an_exponential_loss() -> None:
    # x = 0.2 * 1.5 = 0.3, m = sigmoid(0.3 / 0.1)
    mixed = 1 / (1 + exp(-3))
    loss = DiscoPOPLoss(beta=0.2, tau=0.1)(POLICY, REFERENCE)
    assert loss.tolist() == pytest.approx([(1 - mixed) * surprise(0.3) + mixed * exp(-0.3)], rel=1e-6)


def test_aot_compares_sorted_margins() -> None:
    # policy margins 4, 1 and reference margins 2, 3: sorted 1, 4 and 2, 3; differences -1 and 1
    policy, reference = pair_logps([-1.0, -1.0], [-5.0, -2.0]), pair_logps([-1.0, -1.0], [-3.0, -4.0])
    assert AOTLoss(beta=0.5)(policy, reference).tolist() == pytest.approx([surprise(-0.5), surprise(0.5)])


def test_unpaired_aot_compares_sorted_log_ratios() -> None:
    # chosen 3, 1 and rejected -1, 2: sorted 1, 3 and -1, 2; differences 2 and 1; e = 0.1 adds 0.1 of each logit
    policy, reference = pair_logps([-1.0, -1.0], [-5.0, -2.0]), pair_logps([-4.0, -2.0], [-4.0, -4.0])
    loss = AOTUnpairedLoss(beta=0.5, label_smoothing=0.1)(policy, reference)
    assert loss.tolist() == pytest.approx([surprise(1.0) + 0.1, surprise(0.5) + 0.05])


def test_aot_on_one_pair_is_dpo() -> None:
    assert torch.equal(AOTLoss()(POLICY, REFERENCE), DPOLoss()(POLICY, REFERENCE))
