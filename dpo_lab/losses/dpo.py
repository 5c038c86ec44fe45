"""Direct Preference Optimization (Rafailov et al. 2023), and what it becomes when labels are noisy or uncertain."""

from typing import Annotated, ClassVar

import torch.nn.functional as F
from pydantic import Field, PositiveFloat
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss, known_labels
from dpo_lab.losses.links import logistic
from dpo_lab.losses.log_ratios import Reduction, log_ratio_margin
from dpo_lab.scoring.logps import PairLogps


@component
class DPOLoss(PreferenceLoss):
    """Direct preference optimization, Rafailov et al. 2023, eq. 7 (arXiv:2305.18290).

    -log sigmoid(beta * [(chosen - rejected) under the policy - the same under the reference]).
    With label smoothing e it is cDPO (Mitchell 2023, eq. 3): labels are wrong with probability e.
    With reduction `mean` each response's log-ratio is divided by its number of tokens: the length-normalised DPO of
    Tulu 3 (Lambert et al. 2024, eq. 6, arXiv:2411.15124), whose beta is larger by the length of a response.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> DPOLoss(beta=0.1)(pair_logps(-2.0, -6.0), pair_logps(-2.5, -5.0))
    tensor([0.6210])
    """

    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference, per nat; papers use 0.01 to 0.5."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Probability that a preference is flipped."""
    reduction: Reduction = "sum"
    """Whether a response counts by its summed log-ratio (the paper) or by the mean over its tokens."""

    @property
    def label(self) -> str:
        """dpo, dpo_norm or cdpo."""
        if self.reduction == "mean":
            return "dpo_norm"
        return "cdpo" if self.label_smoothing else "dpo"

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        logit = self.beta * log_ratio_margin(policy, reference, self.reduction)
        return logistic(logit, self.label_smoothing)


@component
class RobustDPOLoss(PreferenceLoss):
    """Robust DPO, Chowdhury et al. 2024, section 3.1 (arXiv:2403.00409): unbiased when labels are flipped with probability e.

    [(1 - e) l(h) - e l(-h)] / (1 - 2e) with DPO's loss l(h) = -log sigmoid(beta h). In expectation over flipped labels it is
    the loss of the true ones; it is unbounded below, where cDPO (`DPOLoss.label_smoothing`) has a smallest value.

    At h = 0 the two terms differ by the factor (1 - 2e), which is divided out: log 2 for any e.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> RobustDPOLoss(label_smoothing=0.2)(pair_logps(-2.0, -6.0), pair_logps(-3.0, -7.0))
    tensor([0.6931])
    """

    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference, per nat."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """Probability that a preference is flipped; at 0.5 nothing could be learned."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        logit, flipped = self.beta * log_ratio_margin(policy, reference), self.label_smoothing
        return (flipped * F.logsigmoid(-logit) - (1 - flipped) * F.logsigmoid(logit)) / (1 - 2 * flipped)


@component
class SoftLabelDPOLoss(PreferenceLoss):
    """cDPO (Mitchell 2023, eq. 3) with a label smoothing of each pair's own: e = 1 - the pair's `preference`.

    -p log sigmoid(beta h) - (1 - p) log sigmoid(-beta h), the cross-entropy with the probability p that the chosen response
    is the better one. The optimal margin is the log-odds of p over beta, finite unless p is 0 or 1.

    A pair that nobody can decide, p = 1/2, two nats apart: log(1 + e^-2) + 2 / 2.

    >>> import torch
    >>> from dpo_lab.scoring.logps import pair_logps
    >>> from dpo_lab.tokens.labels import PairLabels
    >>> even = PairLabels(*torch.tensor([[0.5], [0.0], [0.0]]))
    >>> SoftLabelDPOLoss(beta=1.0)(pair_logps(-2.0, -6.0, labels=even), pair_logps(-2.5, -4.5))
    tensor([1.1269])
    """

    needs_labels: ClassVar[tuple[str, ...]] = ("preference",)

    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference, per nat."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        logit = self.beta * log_ratio_margin(policy, reference)
        return logistic(logit, 1 - known_labels(policy).preference.to(logit.dtype))
