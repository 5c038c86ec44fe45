"""What every layout makes: model inputs, and where in them the response tokens are predicted."""

import os
import shutil
import sysconfig
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from dpo_lab.components import Component
from dpo_lab.tokens.labels import ItemLabels, labels_of
from dpo_lab.tokens.store import TokenStore


@dataclass(frozen=True)
class ResponseBatch:
    """Some responses of a token store, each with its prompt, ready for one forward pass."""

    inputs: dict[str, Any]
    """What the transformer's body takes: `input_ids` and whatever the layout adds (tensors, and `segments`)."""
    predictors: Tensor
    """(tokens,) flat positions in `input_ids` whose hidden state predicts a response token."""
    targets: Tensor
    """(tokens,) the response tokens: of response 0, then of response 1, ..."""
    counts: Tensor
    """(responses,) int64: tokens per response."""
    responses: Tensor
    """(responses,) int64: which responses of the store these are."""

    def __len__(self) -> int:
        return self.counts.shape[0]

    @property
    def num_tokens(self) -> int:
        """Tokens through the model's body, padding included."""
        ids: Tensor = self.inputs["input_ids"]
        return ids.numel()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "ResponseBatch":
        """Return the batch on a device."""

        def moved(part: Any) -> Any:
            return part.to(device, non_blocking=non_blocking) if isinstance(part, Tensor) else part

        inputs = {name: moved(part) for name, part in self.inputs.items()}
        return ResponseBatch(inputs, *(moved(part) for part in (self.predictors, self.targets, self.counts, self.responses)))


@dataclass(frozen=True)
class ItemBatch:
    """Items for one forward pass: their distinct responses, and each item as positions among them."""

    rows: ResponseBatch
    positions: Tensor
    """(entries,) int64: positions in `rows` of the responses of item 0, then of item 1, ..."""
    lengths: Tensor
    """(items,) int64: how many responses each item has."""
    ids: Tensor
    """(items,) int64: which items of the store these are."""
    labels: ItemLabels
    """What the data says of the items."""
    ranked: Tensor | None = None
    """(items, k) int64: positions in `rows` of all responses of each item, -1 where it has fewer; None if all items are pairs."""

    def __len__(self) -> int:
        return self.ids.shape[0]

    @property
    def num_tokens(self) -> int:
        """Tokens through the model's body, padding included."""
        return self.rows.num_tokens

    @property
    def pairs(self) -> Tensor:
        """(items, 2) int64: positions in `rows` of the first and the last response of each item: of a pair the chosen and the
        rejected one, of a ranked list the best and the worst."""
        if self.ranked is None:
            return self.positions.view(len(self), 2)
        ends = self.lengths.cumsum(0)
        return torch.stack([self.positions[ends - self.lengths], self.positions[ends - 1]], dim=1)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "ItemBatch":
        """Return the batch on a device."""
        positions, lengths, ids = (part.to(device) for part in (self.positions, self.lengths, self.ids))
        ranked = None if self.ranked is None else self.ranked.to(device)
        return ItemBatch(self.rows.to(device, non_blocking), positions, lengths, ids, self.labels.to(device), ranked)


Kernel = Literal["sdpa", "flex", "varlen"]
"""How the attention of one row of several sequences is computed: a call per response, or all in one by FlexAttention or by
FlashAttention."""


def lacking(kernel: Kernel) -> str:
    """Return what this machine lacks to compute attention so on a GPU, an empty text if nothing.

    FlexAttention is compiled by Triton, which compiles what launches its kernels with the C compiler it finds.
    """
    if kernel != "flex":
        return ""
    if find_spec("triton") is None:
        return "FlexAttention needs the package triton"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "FlexAttention is compiled by Triton, which needs a C compiler: install gcc, or name one by CC"
    headers = Path(sysconfig.get_paths()["include"])
    if not (headers / "Python.h").is_file():
        return f"FlexAttention is compiled by Triton, which needs Python's headers, and {headers} has no Python.h (python3-dev)"
    return ""


class Layout(Component, ABC):
    """How responses of a token store become model inputs; the result of scoring does not depend on it."""

    label: ClassVar[str]
    """Name of the option."""
    one_row: ClassVar[bool] = False
    """True if a batch is one row of several sequences, which only models that `scoring.fitting` accepts can read."""
    attention: Kernel = "sdpa"

    @abstractmethod
    def rows(self, store: TokenStore, responses: Sequence[int]) -> ResponseBatch:
        """Return the batch that scores these distinct responses of the store, in this order."""

    @abstractmethod
    def num_tokens(self, store: TokenStore, responses: Sequence[int]) -> int:
        """Return how many tokens the model's body computes for these distinct responses, padding included."""

    def items(self, store: TokenStore, items: Sequence[int]) -> ItemBatch:
        """Return the batch that scores these items; a response that stands in several of them appears once.

        The first responses of all items come first (of pairs the chosen ones), then the second ones, and so on.
        """
        answers = [store.responses_of([item]).tolist() for item in items]
        position: dict[int, int] = {}
        for place in range(max(map(len, answers), default=0)):
            for of_item in answers:
                if place < len(of_item):
                    position.setdefault(of_item[place], len(position))
        widest = max(map(len, answers), default=2)
        return ItemBatch(
            self.rows(store, list(position)),
            torch.tensor([position[response] for of_item in answers for response in of_item]),
            torch.tensor([len(of_item) for of_item in answers]),
            torch.tensor(list(items)),
            labels_of(store, items),
            None
            if widest == 2
            else torch.tensor([[position[each] for each in of_item] + [-1] * (widest - len(of_item)) for of_item in answers]),
        )
