"""The library's own cache, for models whose cache is not plain keys and values: sliding windows, recurrent layers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

CACHES = ("cache", "past_key_values")
"""Its name from transformers 5.24 on, and before; the second goes with 5.24 as the oldest version."""


class LibraryCache:
    """A batch of prompts, padded on the left, and the answers that are drawn to them."""

    def __init__(self, model: nn.Module, prompts: Sequence[Sequence[int]], count: int) -> None:
        self.model: Any = model
        self.count = count
        self.ids, self.mask = left_padded(prompts, next(model.parameters()).device)
        self.cache: Any = None

    def read(self) -> Tensor:
        """Read the prompts; return the logits of what follows, (rows, vocab).

        A cache that cannot be repeated is made by reading each prompt once per answer.
        """
        out = self._forward(self.ids, self.mask)
        self.name = next((name for name in CACHES if name in out), "")
        repeats = self.count
        try:
            if self.name and repeats > 1:
                out[self.name].batch_repeat_interleave(repeats)
        except (AttributeError, NotImplementedError):
            self.mask, self.ids = (tensor.repeat_interleave(repeats, 0) for tensor in (self.mask, self.ids))
            out, repeats = self._forward(self.ids, self.mask), 1
        self.cache = out[self.name] if self.name else None
        logits, self.mask, self.ids = (
            tensor.repeat_interleave(repeats, 0) for tensor in (out.logits[:, -1], self.mask, self.ids)
        )
        return logits

    def step(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Read one more token of each answer; return the logits of what follows. A model without cache reads all anew."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], 1)
        if self.cache is None:
            self.ids = torch.cat([self.ids, tokens[:, None]], 1)
            logits: Tensor = self._forward(self.ids, self.mask).logits[:, -1]
            return logits
        inputs = {"input_ids": tokens[:, None], "attention_mask": self.mask, "position_ids": positions[:, None]}
        out = self.model(**inputs, use_cache=True, **{self.name: self.cache})
        self.cache = out[self.name]
        newest: Tensor = out.logits[:, -1]
        return newest

    def select(self, rows: Tensor) -> bool:
        """Go on with some rows alone; return False, and change nothing, if the cache cannot."""
        if self.cache is not None:
            if not all(hasattr(layer, "batch_select_indices") for layer in getattr(self.cache, "layers", [None])):
                return False
            self.cache.batch_select_indices(rows)
        self.mask, self.ids = self.mask[rows], self.ids[rows]
        return True

    def _forward(self, ids: Tensor, mask: Tensor) -> Any:
        position = (mask.cumsum(1) - 1).clamp(min=0)
        return self.model(input_ids=ids, attention_mask=mask, position_ids=position, use_cache=True, logits_to_keep=1)


def left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids and mask of shape (prompts, time), the last token of every prompt in the last column."""
    time = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), time, dtype=torch.long)
    mask = torch.zeros(len(prompts), time, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, time - len(prompt) :] = torch.tensor(prompt)
        mask[row, time - len(prompt) :] = 1
    return ids.to(device), mask.to(device)
