"""What the data says of pairs beside their order: scores and the probability of the preference."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpo_lab.tokens.store import COLUMNS, TokenStore


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

    def to(self, device: torch.device | str) -> "PairLabels":
        """Return the labels on a device."""
        return PairLabels(self.preference.to(device), self.score_chosen.to(device), self.score_rejected.to(device))


def labels_of(store: TokenStore, pairs: Tensor) -> PairLabels:
    """Return what the data says of some pairs of a store."""
    unknown = np.full(store.num_pairs, np.nan, dtype=np.float32)
    columns = {name: torch.from_numpy(store.columns.get(name, unknown)[pairs.numpy()]) for name in COLUMNS}
    return PairLabels(**columns)
