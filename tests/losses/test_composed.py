"""WPO, f-divergences and mixtures: losses that hold others, by hand."""

from math import exp, log
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from dpo_lab.losses.aot import AOTLoss
from dpo_lab.losses.bco import BCOLoss
from dpo_lab.losses.dpo import DPOLoss, RobustDPOLoss, SoftLabelDPOLoss
from dpo_lab.losses.f_divergences import AlphaDivergence, Divergence, FDivergenceLoss, ForwardKL, JensenShannon
from dpo_lab.losses.hinge import HingeLoss
from dpo_lab.losses.ipo import IPOLoss
from dpo_lab.losses.log_ratios import Reduction
from dpo_lab.losses.mixture import MixtureLoss
from dpo_lab.losses.nll import NLLLoss
from dpo_lab.losses.simpo import SimPOLoss
from dpo_lab.losses.wpo import WPOLoss
from dpo_lab.scoring.logps import PairLogps, ResponseLogps, pair_logps

POLICY, REFERENCE = pair_logps(log(4), log(1 / 2)), pair_logps(0.0, 0.0)  # ratios 4 and 1/2


def surprise(logit: float) -> float:
    """Return -log sigmoid(logit)."""
    return log(1 + exp(-logit))


@pytest.mark.parametrize(
    ("divergence", "margin"),
    [
        (ForwardKL(), -1 / 4 + 2),  # -1/u
        (JensenShannon(), log(8 / 5) - log(2 / 3)),  # log(2u / (1 + u))
        (AlphaDivergence(alpha=0.5), 2 * (-1 / 2 + 2**0.5)),  # (1 - u^-1/2) / (1/2)
    ],
)
def test_an_f_divergence_puts_its_derivative_in_the_place_of_the_log(divergence: Divergence, margin: float) -> None:
    loss = FDivergenceLoss(divergence=divergence, loss=HingeLoss(beta=0.1))
    assert loss(POLICY, REFERENCE).tolist() == pytest.approx([1 - 0.1 * margin], rel=1e-6)


def test_an_alpha_divergence_lies_between_the_reverse_and_the_forward_kl() -> None:
    near = {alpha: FDivergenceLoss(divergence=AlphaDivergence(alpha=alpha), loss=DPOLoss()) for alpha in (1e-6, 1 - 1e-6)}
    forward = FDivergenceLoss(divergence=ForwardKL(), loss=DPOLoss())
    assert torch.allclose(near[1e-6](POLICY, REFERENCE), DPOLoss()(POLICY, REFERENCE), rtol=1e-5)
    assert torch.allclose(near[1 - 1e-6](POLICY, REFERENCE), forward(POLICY, REFERENCE), rtol=1e-5)


def test_a_loss_of_more_than_the_difference_has_no_f_divergence() -> None:
    with pytest.raises(ValidationError):
        FDivergenceLoss(divergence=ForwardKL(), loss=SimPOLoss())  # type: ignore[arg-type]


@pytest.mark.parametrize(("divergence", "nats"), [(ForwardKL(), 44), (AlphaDivergence(alpha=0.5), 89)])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_square_of_a_derivative_that_grows_exponentially_is_refused(
    divergence: Divergence, nats: int, reduction: Reduction
) -> None:
    # (e^45)^2 = 1.2e39 is not a number of float32, nor is (e^(0.5 * 90))^2
    with pytest.raises(ValidationError, match=f"IPO squares .* under {type(divergence).__name__} .* -{nats} nats"):
        FDivergenceLoss(divergence=divergence, loss=IPOLoss(reduction=reduction))


DIVERGENCES = (ForwardKL(), JensenShannon(), AlphaDivergence(alpha=0.5))
INSIDE: tuple[Any, ...] = (DPOLoss(), HingeLoss(), RobustDPOLoss())


@pytest.mark.parametrize("nats", [50.0, 200.0, 1e4])
@pytest.mark.parametrize(
    "loss",
    [FDivergenceLoss(divergence=JensenShannon(), loss=IPOLoss(reduction="sum"))]
    + [FDivergenceLoss(divergence=divergence, loss=loss) for divergence in DIVERGENCES for loss in INSIDE],
    ids=lambda loss: loss.label,
)
def test_every_other_f_divergence_of_a_loss_is_finite_at_extreme_log_ratios(loss: FDivergenceLoss, nats: float) -> None:
    policy = pair_logps([-nats, 0.0, -nats], [0.0, -nats, -nats])
    leaf = policy.responses.per_token.requires_grad_()
    losses = loss(policy, pair_logps([0.0] * 3, [0.0] * 3))
    (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    assert losses.isfinite().all()
    assert gradient.isfinite().all()


def test_pairs_are_weighted_by_how_likely_the_policy_writes_both() -> None:
    # tokens against draws: chosen -1 + 1.5 and -2 + 1.5, mean 0; rejected -3 + 2 = -1; weight e^-1
    per_token, squares = torch.tensor([-1.0, -2.0, -3.0], requires_grad=True), torch.tensor([-1.5, -1.5, -2.0])
    policy = PairLogps(ResponseLogps(per_token, torch.tensor([2, 1]), squares), torch.tensor([[0, 1]]))
    loss = WPOLoss(loss=HingeLoss(beta=0.5))(policy, pair_logps(0.0, 0.0))  # margin 0: hinge 1
    assert loss.tolist() == pytest.approx([exp(-1)])
    loss.sum().backward()
    assert per_token.grad is not None  # of the hinge alone: the weight is a constant
    assert per_token.grad.tolist() == pytest.approx([-0.5 * exp(-1), -0.5 * exp(-1), 0.5 * exp(-1)])


def test_losses_of_a_whole_step_have_no_weight_of_a_pair() -> None:
    for loss in (AOTLoss(), BCOLoss(), NLLLoss(reduction="step")):
        with pytest.raises(ValidationError, match="single pairs"):
            WPOLoss(loss=loss)


def mixed(**losses: DPOLoss | SoftLabelDPOLoss | NLLLoss | BCOLoss | WPOLoss) -> MixtureLoss:
    """Return a mixture with weights 2, 3, ..."""
    return MixtureLoss(losses=dict(losses), weights={name: 2.0 + at for at, name in enumerate(losses)})


def test_a_mixture_is_the_weighted_sum() -> None:
    policy, reference = pair_logps(-2.0, -6.0, tokens=(4, 1)), pair_logps(-2.5, -5.0, tokens=(4, 1))
    # 2 l(0.15) + 3 * 2/4
    assert mixed(dpo=DPOLoss(beta=0.1), nll=NLLLoss())(policy, reference).tolist() == pytest.approx([2 * surprise(0.15) + 1.5])


def test_a_mixture_needs_what_its_losses_need() -> None:
    plain = mixed(nll=NLLLoss())
    assert (plain.needs_reference, plain.couples_pairs, plain.needs_full_softmax, plain.needs_labels) == (False, False, False, ())
    assert mixed(nll=NLLLoss(), dpo=DPOLoss()).needs_reference
    assert mixed(dpo=DPOLoss(), bco=BCOLoss()).couples_pairs
    assert mixed(dpo=DPOLoss(), nll=NLLLoss(reduction="step")).couples_pairs
    assert mixed(dpo=DPOLoss(), wpo=WPOLoss(loss=SoftLabelDPOLoss())).needs_full_softmax
    assert mixed(dpo=DPOLoss(), wpo=WPOLoss(loss=SoftLabelDPOLoss())).needs_labels == ("preference",)
    assert mixed(dpo=DPOLoss(beta=0.3), bco=BCOLoss(beta=0.4)).beta == 0.3


@pytest.mark.parametrize("weights", [{"dpo": 1.0}, {"dpo": 1.0, "sft": 1.0}, {}])
def test_every_loss_of_a_mixture_has_a_weight_of_its_name(weights: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="every loss needs one weight"):
        MixtureLoss(losses={"dpo": DPOLoss(), "nll": NLLLoss()}, weights=weights)


def test_a_mixture_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="every loss needs one weight"):
        MixtureLoss(losses={}, weights={})
