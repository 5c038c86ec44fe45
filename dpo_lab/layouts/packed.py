"""The packed layout: every response with its own prompt, one after the other in one row, no padding."""

from collections.abc import Sequence
from typing import ClassVar

from dpo_lab.components import component
from dpo_lab.layouts.base import Kernel, Layout, ResponseBatch
from dpo_lab.layouts.segments import segment_rows
from dpo_lab.tokens.store import TokenStore


@component
class PackedLayout(Layout):
    """One row of [prompt | response][prompt | response]..."""

    label: ClassVar[str] = "packed"
    one_row: ClassVar[bool] = True

    attention: Kernel = "sdpa"
    """How the row's attention is computed; `flex` and `varlen` on a GPU only."""

    def rows(self, store: TokenStore, responses: Sequence[int]) -> ResponseBatch:
        """Return inputs of shape (1, time)."""
        return segment_rows(store, [[response] for response in responses], responses)

    def num_tokens(self, store: TokenStore, responses: Sequence[int]) -> int:
        """Return the tokens of every response and its prompt."""
        return int(store.row_lengths[list(responses)].sum())
