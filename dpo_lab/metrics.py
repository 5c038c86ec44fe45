"""Means over items that are exact for ragged batches."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class MeanOverItems:
    """Running means over items (over pairs, or tokens in fine-tuning): sums and a count, never means of means.

    >>> import torch
    >>> mean = MeanOverItems()
    >>> mean.update({"margin": torch.tensor([1.0, 2.0, -1.0, -1.0])})
    >>> mean.update({"margin": torch.tensor([-1.0])})
    >>> mean.compute()
    {'margin': 0.0}
    """

    def __init__(self) -> None:
        self.count = 0
        self.sums: dict[str, Tensor] = {}

    def update(self, values: "Mapping[str, Tensor]") -> None:
        """Add one value per item and name; stays on the device, so that a step waits for nothing."""
        self.count += len(next(iter(values.values())))
        for name, per_item in values.items():
            total = per_item.detach().double().sum()
            self.sums[name] = self.sums[name] + total if name in self.sums else total

    def add(self, other: "MeanOverItems") -> None:
        """Add the items of another."""
        self.count += other.count
        for name, total in other.sums.items():
            self.sums[name] = self.sums[name] + total if name in self.sums else total

    def compute(self) -> dict[str, float]:
        """Return the means over every item so far; empty without items."""
        return {name: float(total) / self.count for name, total in self.sums.items()}

    def state(self) -> dict[str, Any]:
        """Return count and sums as plain data and tensors."""
        return {"count": self.count, "sums": self.sums}

    @classmethod
    def from_state(cls, state: "Mapping[str, Any]") -> "MeanOverItems":
        """Return the means that continue from a state."""
        means = cls()
        means.count, means.sums = state["count"], dict(state["sums"])
        return means
