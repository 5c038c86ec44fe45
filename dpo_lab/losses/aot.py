"""AOT: distributional preference alignment via optimal transport (Melnyk et al. 2024)."""

from typing import Annotated, ClassVar

from pydantic import Field, PositiveFloat
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.links import logistic
from dpo_lab.losses.log_ratios import log_ratios
from dpo_lab.scoring.logps import PairLogps


@component
class AOTLoss(PreferenceLoss):
    """Alignment via optimal transport, paired, Melnyk et al. 2024, section 3 (arXiv:2406.05882).

    The policy's margins and the reference's, each sorted over the optimizer step, are compared rank by rank with cDPO's loss:
    the distribution of the one is to dominate that of the other. The values returned belong to ranks, not to pairs; their
    mean is the loss.

    Margins 1 and 3 against 3 and 1: sorted, they are equal. DPO would see -2 and 2.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> AOTLoss()(pair_logps([-1.0, -1.0], [-2.0, -4.0]), pair_logps([-1.0, -1.0], [-4.0, -2.0]))
    tensor([0.6931, 0.6931])
    """

    couples_pairs: ClassVar[bool] = True

    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference, per nat."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Probability that a preference is flipped."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per rank, shape (pairs,)."""
        logit = self.beta * (policy.margin.sort().values - reference.margin.sort().values)
        return logistic(logit, self.label_smoothing)


@component
class AOTUnpairedLoss(PreferenceLoss):
    """Alignment via optimal transport, unpaired, Melnyk et al. 2024, section 3 (arXiv:2406.05882).

    The log-ratios of the chosen responses and those of the rejected ones, each sorted over the optimizer step, are compared
    rank by rank with cDPO's loss. The values returned belong to ranks, not to pairs; their mean is the loss.

    Chosen log-ratios 2 and 1, rejected 1 and 2: sorted, they are equal.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> AOTUnpairedLoss()(pair_logps([-1.0, -2.0], [-5.0, -4.0]), pair_logps([-3.0, -3.0], [-6.0, -6.0]))
    tensor([0.6931, 0.6931])
    """

    couples_pairs: ClassVar[bool] = True

    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference, per nat."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Probability that a preference is flipped."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per rank, shape (pairs,)."""
        chosen, rejected = log_ratios(policy, reference)
        return logistic(self.beta * (chosen.sort().values - rejected.sort().values), self.label_smoothing)
