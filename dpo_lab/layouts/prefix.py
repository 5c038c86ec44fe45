"""The prefix layout: each prompt once, its responses after it, no padding."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dpo_lab.components import component
from dpo_lab.layouts.base import Kernel, Layout, ResponseBatch
from dpo_lab.layouts.segments import segment_rows
from dpo_lab.tokens.store import TokenStore


@component
class PrefixLayout(Layout):
    """One row of [prompt | response | response | ...][prompt | response | ...]...; no response sees another."""

    label: ClassVar[str] = "prefix"
    one_row: ClassVar[bool] = True

    attention: Kernel = "sdpa"
    """How the row's attention is computed; `flex` and `varlen` on a GPU only."""

    def rows(self, store: TokenStore, responses: Sequence[int]) -> ResponseBatch:
        """Return inputs of shape (1, time)."""
        of_prompt: dict[int, list[int]] = {}
        for response in responses:
            of_prompt.setdefault(int(store.response_prompt[response]), []).append(response)
        return segment_rows(store, of_prompt.values(), responses)

    def num_tokens(self, store: TokenStore, responses: Sequence[int]) -> int:
        """Return the tokens of the responses and of their distinct prompts."""
        prompts = np.unique(store.response_prompt[list(responses)])
        return int(store.prompt_lengths[prompts].sum() + store.response_lengths[list(responses)].sum())
