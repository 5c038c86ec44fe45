"""Links: from how far a pair is apart to a loss; every smaller loss is a better separated pair."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def logistic(logit: Tensor, label_smoothing: float | Tensor = 0.0) -> Tensor:
    """Return -(1 - e) log sigmoid(logit) - e log sigmoid(-logit): the label is wrong with probability e.

    >>> import torch
    >>> logistic(torch.tensor([0.0, 2.0]), label_smoothing=0.25)  # log(1 + e^-2) = 0.1269, and 0.25 * 2 more
    tensor([0.6931, 0.6269])
    """
    return -(1 - label_smoothing) * F.logsigmoid(logit) - label_smoothing * F.logsigmoid(-logit)


def hinge(logit: Tensor) -> Tensor:
    """Return max(0, 1 - logit): a pair that is far enough apart no longer counts."""
    return F.relu(1 - logit)


def squared(margin: Tensor, beta: float) -> Tensor:
    """Return (margin - 1 / (2 beta))^2: a margin that is too large counts as one that is too small."""
    return (margin - 1 / (2 * beta)).square()


LINKS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "logistic": lambda margin, beta: logistic(beta * margin),
    "hinge": lambda margin, beta: hinge(beta * margin),
    "squared": squared,
}
"""Name -> function of a margin in nats and beta."""
