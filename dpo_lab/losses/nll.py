"""Supervised fine-tuning on the chosen response: a loss by itself, and the term that others add."""

from typing import ClassVar, Literal

from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.scoring.logps import PairLogps


@component
class NLLLoss(PreferenceLoss):
    """-log p(chosen): preferred fine-tuning, and the regulariser of RPO (Pang et al. 2024, eq. 1, arXiv:2404.19733).

    Three normalisers are in use, and they are three numbers: over each response (RPO, LLaMA-Factory), over all chosen tokens
    of a step (TRL's `sft`, there of a micro-batch), and none (the likelihood itself).

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> policy = pair_logps([-6.0, -1.0], [-9.0, -9.0], tokens=(2, 3))
    >>> [NLLLoss(reduction=name)(policy, policy).tolist() for name in ("mean", "sum")]
    [[3.0, 0.5], [6.0, 1.0]]
    """

    needs_reference: ClassVar[bool] = False
    beta: ClassVar[float] = 1.0  # it has no scale: logged rewards are log-ratios

    reduction: Literal["mean", "sum", "step"] = "mean"
    """Divide by the response's tokens (`mean`), by nothing (`sum`), or so that the mean over the pairs of the optimizer step is
    the mean over all their chosen tokens (`step`)."""

    @property
    def couples_pairs(self) -> bool:
        """True if the normaliser is that of the step."""
        return self.reduction == "step"

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        if self.reduction == "sum":
            return -policy.chosen
        if self.reduction == "mean":
            return -policy.chosen / policy.chosen_tokens
        return -policy.chosen * len(policy.pairs) / policy.chosen_tokens.sum()
