"""SimPO: Simple Preference Optimization with a reference-free reward (Meng et al. 2024)."""

from typing import Annotated, ClassVar

from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from dpo_lab.components import component
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.links import logistic
from dpo_lab.scoring.logps import PairLogps


@component
class SimPOLoss(PreferenceLoss):
    """SimPO, Meng et al. 2024, eq. 6 (arXiv:2405.14734).

    -log sigmoid(beta * [log p(chosen) / its tokens - log p(rejected) / its tokens] - gamma); no reference.
    Label smoothing e as in the authors' code: the label is wrong with probability e.

    Two nats a token against three, beta 2 and gamma 2: the margin is exactly reached, log 2.

    >>> from dpo_lab.scoring.logps import pair_logps
    >>> policy = pair_logps(-6.0, -12.0, tokens=(3, 4))
    >>> SimPOLoss(beta=2.0, gamma=2.0)(policy, policy)
    tensor([0.6931])
    """

    needs_reference: ClassVar[bool] = False

    beta: PositiveFloat = 2.0
    """Scale of the rewards, per nat and token; the paper uses 2.0 to 2.5 (10 in one setting)."""
    gamma: NonNegativeFloat = 1.0
    """Target reward margin; the authors suggest to start from gamma / beta = 0.5."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Probability that a preference is flipped."""

    def __call__(self, policy: PairLogps, reference: PairLogps) -> Tensor:
        """Return one loss per pair, shape (pairs,)."""
        margin = policy.chosen / policy.chosen_tokens - policy.rejected / policy.rejected_tokens
        return logistic(self.beta * margin - self.gamma, self.label_smoothing)
