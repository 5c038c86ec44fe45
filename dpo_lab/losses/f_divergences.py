"""f-DPO: DPO under other divergences than the reverse KL (Wang et al. 2023)."""

import math
from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from dpo_lab.components import Component, component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.dpo import DPOLoss, RobustDPOLoss
from dpo_lab.losses.hinge import HingeLoss
from dpo_lab.losses.ipo import IPOLoss
from dpo_lab.losses.log_ratios import log_ratios, with_sums
from dpo_lab.scoring.logps import PairLogps

LARGEST_EXPONENT = 80.0  # e^88 overflows in float32; TRL stops here too. Beyond it a response has no gradient
LARGEST_SQUARED = math.log(torch.finfo(torch.float32).max) / 2  # 44: the square of what is larger than e to it is infinite


class Divergence(Component, ABC):
    """An f-divergence between policy and reference, by what its reward is made of."""

    @property
    def growth(self) -> float:
        """f'(u) grows like u^-growth as u goes to 0, exponentially in the log-ratio; 0: not faster than the log-ratio."""
        return 0.0

    @abstractmethod
    def derivative(self, log_ratio: Tensor) -> Tensor:
        """Return f'(u) at u = policy / reference = exp(log_ratio), up to a constant: 0 at u = 1."""


def exp_minus_one(exponent: Tensor) -> Tensor:
    """Return e^x - 1, constant beyond the largest exponent."""
    return torch.expm1(exponent.clamp(max=LARGEST_EXPONENT))


@component
class ForwardKL(Divergence):
    """KL(reference || policy): f(u) = -log u, f'(u) = -1 / u.

    >>> ForwardKL().derivative(torch.tensor([0.0, 2.0]).log1p())  # 1 - 1/u at u = 1 and 3
    tensor([0.0000, 0.6667])
    """

    growth: ClassVar[float] = 1.0

    def derivative(self, log_ratio: Tensor) -> Tensor:
        """Return 1 - 1 / u."""
        return -exp_minus_one(-log_ratio)


@component
class JensenShannon(Divergence):
    """Jensen-Shannon: f(u) = u log u - (u + 1) log((u + 1) / 2), f'(u) = log(2u / (1 + u)).

    >>> JensenShannon().derivative(torch.tensor([0.0, 2.0]).log1p())  # log 1 and log 3/2
    tensor([0.0000, 0.4055])
    """

    def derivative(self, log_ratio: Tensor) -> Tensor:
        """Return log(2u / (1 + u))."""
        return math.log(2) + F.logsigmoid(log_ratio)


@component
class AlphaDivergence(Divergence):
    """The alpha-divergence: f'(u) = (1 - u^-alpha) / alpha, between the reverse KL (alpha 0) and the forward one (alpha 1).

    alpha is the paper's; TRL's `f_alpha_divergence_coef` is 1 - alpha.

    >>> AlphaDivergence(alpha=0.5).derivative(torch.tensor([0.0, 3.0]).log1p())  # 2 (1 - 1/2) at u = 4
    tensor([0., 1.])
    """

    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Between 0 (reverse KL: `DPOLoss` itself) and 1 (`ForwardKL`)."""

    @property
    def growth(self) -> float:
        """alpha."""
        return self.alpha

    def derivative(self, log_ratio: Tensor) -> Tensor:
        """Return (1 - u^-alpha) / alpha."""
        return -exp_minus_one(-self.alpha * log_ratio) / self.alpha


@component
class FDivergenceLoss(PreferenceLoss):
    """f-DPO, Wang et al. 2023 (arXiv:2309.16240): the loss of f'(policy / reference) instead of log(policy / reference).

    -log sigmoid(beta * [f'(u_chosen) - f'(u_rejected)]) with u = policy / reference, when the loss inside is DPO; a policy that
    is held near the reference by the divergence of f has the reward beta f'(u) + a constant.

    Ratios 3 and 1 under the forward KL: 1.5 * (1 - 1/3) = 1, and log(1 + e^-1) = 0.3133.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> loss = FDivergenceLoss(divergence=ForwardKL(), loss=DPOLoss(beta=1.5))
    >>> loss(pair_logps(-2.0, -6.0), pair_logps(-3.098612, -6.0))
    tensor([0.3133])
    """

    divergence: Divergence
    """What holds the policy near the reference."""
    loss: DPOLoss | IPOLoss | HingeLoss | RobustDPOLoss
    """What is done with the difference of the two: a loss that reads nothing else; IPO only where f' does not grow
    exponentially, because its true value leaves the numbers of float32 at log-ratios that training reaches."""

    @field_validator("loss")
    @classmethod
    def _is_finite(cls, loss: PreferenceLoss, info: ValidationInfo) -> PreferenceLoss:
        divergence = info.data.get("divergence")  # absent if it was refused itself
        if isinstance(loss, IPOLoss) and divergence is not None and divergence.growth:
            raise ValueError(
                f"IPO squares the difference, which under {type(divergence).__name__} grows exponentially and is infinite "
                f"once a log-ratio is below -{LARGEST_SQUARED / divergence.growth:.0f} nats; "
                "choose DPOLoss, HingeLoss or RobustDPOLoss, or the divergence JensenShannon"
            )
        return loss

    @property
    def label(self) -> str:
        """The loss and the divergence."""
        return f"{self.loss.label}-{type(self.divergence).__name__.lower()}"

    @property
    def beta(self) -> float:
        """That of the loss inside."""
        return self.loss.beta

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        chosen, rejected = (self.divergence.derivative(ratio) for ratio in log_ratios(policy, reference))
        nothing = torch.zeros_like(chosen)
        return self.loss(with_sums(policy, chosen, rejected), with_sums(policy, nothing, nothing))
