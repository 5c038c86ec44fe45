"""CPO: Contrastive Preference Optimization (Xu et al. 2024), DPO with a uniform reference and a likelihood term."""

from typing import ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.links import LINKS
from dpo_lab.scoring.logps import PairLogps


@component
class CPOLoss(PreferenceLoss):
    """Contrastive preference optimization, Xu et al. 2024, eq. 3 and 5 (arXiv:2401.08417); no reference.

    -log sigmoid(beta * [log p(chosen) - log p(rejected)]) - nll_weight * log p(chosen) / its tokens.
    The likelihood, which eq. 5 adds, is taken per token, as in the authors' code, and over each response rather than over a
    batch. Other links than the logistic one are TRL's.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> policy = pair_logps(-2.0, -2.0, tokens=(2, 2))
    >>> CPOLoss(nll_weight=0.5)(policy, policy)  # log 2 + 0.5 * 1
    tensor([1.1931])
    """

    needs_reference: ClassVar[bool] = False

    beta: PositiveFloat = 0.1
    """Per nat."""
    nll_weight: NonNegativeFloat = 1.0
    """Weight of the likelihood of the chosen response."""
    link: Literal["logistic", "hinge", "squared"] = "logistic"
    """Function of the margin; `squared` aims at 1 / (2 beta) nats, as IPO."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        return LINKS[self.link](policy.margin, self.beta) - self.nll_weight * policy.chosen / policy.chosen_tokens
