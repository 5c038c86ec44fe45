"""ODPO: DPO with an offset (Amini et al. 2024), which asks more of pairs whose scores are further apart."""

from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss, known_labels
from dpo_lab.losses.links import logistic
from dpo_lab.losses.log_ratios import log_ratio_margin
from dpo_lab.scoring.logps import PairLogps


@component
class ODPOLoss(PreferenceLoss):
    """DPO with an offset, Amini et al. 2024 (arXiv:2402.10571).

    -log sigmoid(beta h - alpha f(score_chosen - score_rejected)), h = the policy's margin minus the reference's, f increasing:
    log as in the paper, or the difference itself. With log, scores less than 1 apart ask less than DPO, and a pair whose
    chosen response does not score higher asks nothing (its offset is -87 alpha).

    >>> import torch
    >>> from dpo_lab.scoring.logps import pair_logps
    >>> from dpo_lab.tokens.labels import PairLabels
    >>> scored = PairLabels(*torch.tensor([[1.0], [2.0], [0.5]]))
    >>> ODPOLoss(beta=1.0, scaling="linear")(pair_logps(-2.0, -6.0, labels=scored), pair_logps(-2.5, -5.0))  # 1.5 - 1.5
    tensor([0.6931])
    """

    needs_labels: ClassVar[tuple[str, ...]] = ("score_chosen", "score_rejected")

    beta: PositiveFloat = 0.1
    """Strength of the pull towards the reference, per nat."""
    alpha: NonNegativeFloat = 1.0
    """Weight of the offset; 0 is DPO."""
    scaling: Literal["log", "linear"] = "log"
    """f: how the offset grows with the difference of the scores."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        logit = self.beta * log_ratio_margin(policy, reference)
        labels = known_labels(policy)
        gap = (labels.score_chosen - labels.score_rejected).to(logit.dtype)
        if self.scaling == "log":
            gap = gap.clamp(min=torch.finfo(torch.float32).tiny).log()
        return logistic(logit - self.alpha * gap)
