"""What the data says of items beside their order: scores, the probability of a preference, whether an answer is desirable."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dpo_lab.tokens.store import TokenStore


@dataclass(frozen=True)
class PairLabels:
    """What the data says of some pairs beside which response is preferred; NaN where it does not say."""

    preference: Tensor
    """(pairs,) probability that the chosen response is the better one."""
    score_chosen: Tensor
    """(pairs,) score of the chosen response, higher is better."""
    score_rejected: Tensor
    """(pairs,) score of the rejected response."""

    @classmethod
    def joined(cls, parts: Sequence["PairLabels"]) -> "PairLabels":
        """Return the labels of several batches as one."""
        return cls(
            *(torch.cat([getattr(part, name) for part in parts]) for name in ("preference", "score_chosen", "score_rejected"))
        )


@dataclass(frozen=True)
class ItemLabels:
    """What the data says of some items; NaN where it does not say."""

    scores: Tensor
    """(entries,) score of each response in its item, item after item; higher is better."""
    preference: Tensor
    """(items,) probability that the first response of a pair is the better one."""
    desirable: Tensor
    """(items,) 1 for a labelled answer that is desirable, 0 for one that is not."""

    @property
    def of_pairs(self) -> PairLabels:
        """The labels of items that are all pairs."""
        sides = self.scores.view(-1, 2)
        return PairLabels(self.preference, sides[:, 0], sides[:, 1])

    def to(self, device: torch.device | str) -> "ItemLabels":
        """Return the labels on a device."""
        return ItemLabels(self.scores.to(device), self.preference.to(device), self.desirable.to(device))


def labels_of(store: TokenStore, items: Sequence[int]) -> ItemLabels:
    """Return what the data says of some items of a store."""
    chosen = list(items)
    labels = (store.scores[store.entries(chosen)], store.preference[chosen], store.desirable[chosen])
    return ItemLabels(*map(torch.from_numpy, labels))
