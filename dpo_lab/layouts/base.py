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
from dpo_lab.tokens.labels import PairLabels, labels_of
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

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "ResponseBatch":
        """Return the batch on a device."""

        def moved(part: Any) -> Any:
            return part.to(device, non_blocking=non_blocking) if isinstance(part, Tensor) else part

        inputs = {name: moved(part) for name, part in self.inputs.items()}
        return ResponseBatch(inputs, *(moved(part) for part in (self.predictors, self.targets, self.counts, self.responses)))


@dataclass(frozen=True)
class PairBatch:
    """Preference pairs for one forward pass: their distinct responses, and the pairs as positions among them."""

    rows: ResponseBatch
    pairs: Tensor
    """(pairs, 2) int64: positions of the chosen and the rejected response in `rows`."""
    ids: Tensor
    """(pairs,) int64: which pairs of the store these are."""
    labels: PairLabels
    """Scores and preference of the pairs."""

    def __len__(self) -> int:
        return self.pairs.shape[0]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "PairBatch":
        """Return the batch on a device."""
        return PairBatch(self.rows.to(device, non_blocking), self.pairs.to(device), self.ids.to(device), self.labels.to(device))


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

    def pairs(self, store: TokenStore, pairs: Sequence[int]) -> PairBatch:
        """Return the batch that scores these pairs; a response that stands in several of them appears once.

        Chosen responses come first, then rejected ones.
        """
        sides = store.pairs[list(pairs)]
        position: dict[int, int] = {}
        for response in [*sides[:, 0].tolist(), *sides[:, 1].tolist()]:
            position.setdefault(response, len(position))
        slots = torch.tensor([[position[chosen], position[rejected]] for chosen, rejected in sides.tolist()])
        ids = torch.tensor(list(pairs))
        return PairBatch(self.rows(store, list(position)), slots.view(-1, 2), ids, labels_of(store, ids))
