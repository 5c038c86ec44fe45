"""Figures of preference training: one table of names and meanings, and means that are exact for ragged batches."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MEANINGS: dict[str, str] = {
    "loss": "mean of the loss over pairs",
    "rewards/chosen": "beta x (policy - reference) log-probability of the chosen response, mean over pairs",
    "rewards/rejected": "the same of the rejected response",
    "rewards/margins": "rewards/chosen - rewards/rejected, mean over pairs",
    "rewards/accuracies": "share of pairs with a margin above 0; a tie counts as wrong",
    "rewards/accuracies_ties_half": "share of pairs with a margin above 0; a tie counts half",
    "logps/chosen": "log-probability of the chosen response under the policy, nats, mean over pairs",
    "logps/rejected": "the same of the rejected response",
    "lr": "learning rate of the step",
    "grad_norm": "norm of the step's gradient before clipping",
}


class MeanOverPairs:
    """Running means over pairs: sums and a count, never means of means.

    >>> import torch
    >>> mean = MeanOverPairs()
    >>> mean.update({"margin": torch.tensor([1.0, 2.0, -1.0, -1.0])})
    >>> mean.update({"margin": torch.tensor([-1.0])})
    >>> mean.compute()
    {'margin': 0.0}
    """

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, Tensor] = {}

    def update(self, values: "Mapping[str, Tensor]") -> None:
        """Add one value per pair and name; stays on the device, so that a step waits for nothing."""
        self.count += len(next(iter(values.values())))
        for name, per_pair in values.items():
            total = per_pair.detach().double().sum()
            self._sums[name] = self._sums[name] + total if name in self._sums else total

    def compute(self) -> dict[str, float]:
        """Return the means over every pair so far; empty without pairs."""
        return {name: float(total) / self.count for name, total in self._sums.items()}
