"""GPO: generalized preference optimization (Tang et al. 2024), link and reduction chosen apart."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.links import LINKS
from dpo_lab.losses.log_ratios import Reduction, log_ratio_margin
from dpo_lab.scoring.logps import PairLogps


@component
class GPOLoss(PreferenceLoss):
    """Generalized preference optimization, Tang et al. 2024 (arXiv:2402.05749): any link of any log-ratio margin.

    (1 - e) f(h) + e f(-h) with h = the policy's margin minus the reference's, f the link and e the probability that the
    label is wrong. DPO, cDPO, hinge and IPO are points of this plane, and the named losses are their usual settings; a third
    axis, what is added to the loss of a pair, is `MixtureLoss`.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> GPOLoss(beta=0.1, link="hinge")(pair_logps(-2.0, -6.0), pair_logps(-2.5, -5.0))  # 1 - 0.1 * 1.5
    tensor([0.8500])
    """

    compared: ClassVar[bool] = False  # its points are other options

    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference, per nat (per nat and token with reduction `mean`)."""
    link: Literal["logistic", "hinge", "squared"] = "logistic"
    """f: -log sigmoid(beta h), max(0, 1 - beta h) or (h - 1 / (2 beta))^2."""
    reduction: Reduction = "sum"
    """Whether a response counts by its summed log-ratio or by the mean over its tokens."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Probability that a preference is flipped."""

    @property
    def label(self) -> str:
        """gpo with link and reduction: what a sweep over them varies."""
        return f"gpo_{self.link}_{self.reduction}"

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        margin, link = log_ratio_margin(policy, reference, self.reduction), LINKS[self.link]
        return (1 - self.label_smoothing) * link(margin, self.beta) + self.label_smoothing * link(-margin, self.beta)
