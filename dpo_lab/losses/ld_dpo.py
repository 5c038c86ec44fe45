"""LD-DPO: length desensitization in DPO (Liu et al. 2024), for any loss."""

from typing import Annotated

import torch
from pydantic import Field, field_validator
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.log_ratios import with_sums
from dpo_lab.scoring.logps import PairLogps


@component
class LDDPOLoss(PreferenceLoss):
    """Length-desensitized DPO, Liu et al. 2024 (arXiv:2409.06411).

    log p(the first n tokens) + alpha log p(the tokens after them) stands for log p of a response, with n = the tokens of the
    shorter response of the pair. Under policy and reference alike, as in TRL; LLaMA-Factory leaves the reference as it is.
    A loss that divides by tokens still divides by all of them.

    Chosen -1 and -1, rejected -1: with alpha 0 the second token does not count, and the margins are equal.

    >>> from dpo_lab.losses.dpo import DPOLoss
    >>> from dpo_lab.scoring.logps import pair_logps
    >>> policy, reference = pair_logps(-2.0, -1.0, tokens=(2, 1)), pair_logps(-4.0, -2.0, tokens=(2, 1))
    >>> LDDPOLoss(alpha=0.0, loss=DPOLoss())(policy, reference)
    tensor([0.6931])
    """

    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Weight of the tokens beyond the shorter response; 1 changes nothing, 0 leaves them out."""
    loss: PreferenceLoss
    """What is done with the log-probabilities."""

    @property
    def beta(self) -> float:
        """That of the loss inside."""
        return self.loss.beta

    @field_validator("loss")
    @classmethod
    def _reads_whole_responses(cls, loss: PreferenceLoss) -> PreferenceLoss:
        if loss.needs_full_softmax:
            raise ValueError("it weighs single tokens, which are no longer known here; put it outside: WPO of LD-DPO")
        return loss

    def desensitized(self, logps: PairLogps) -> PairLogps:
        """Return the pairs with the log-probabilities that the loss sees."""
        within = logps.first(torch.minimum(logps.chosen_tokens, logps.rejected_tokens))
        sums = within + self.alpha * (logps.sums - within)
        return with_sums(logps, sums[:, 0], sums[:, 1])

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        return self.loss(self.desensitized(policy), self.desensitized(reference))
