"""The padded layout: one row per response, the readable implementation that the others are compared with."""

from collections.abc import Sequence
from typing import ClassVar

import torch

from dpo_lab.components import component
from dpo_lab.layouts.base import Layout, ResponseBatch
from dpo_lab.tokens.store import TokenStore


@component
class PaddedLayout(Layout):
    """Rows of [prompt | response | padding], padded on the right to the longest row."""

    label: ClassVar[str] = "padded"

    def rows(self, store: TokenStore, responses: Sequence[int]) -> ResponseBatch:
        """Return inputs of shape (responses, time).

        Padding is told by position, never by token value: the pad token may be the end token. A causal model sees
        no padding from the left of it, but the mask is given all the same, for models that are not.
        """
        prompts = [torch.from_numpy(store.prompt_of(response).astype("int64")) for response in responses]
        answers = [torch.from_numpy(store.response(response).astype("int64")) for response in responses]
        lengths = [len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)]
        time = max(lengths)
        input_ids = torch.zeros(len(answers), time, dtype=torch.int64)
        attention_mask = torch.zeros(len(answers), time, dtype=torch.int64)
        predictors = []
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            input_ids[row, : len(prompt)] = prompt
            input_ids[row, len(prompt) : lengths[row]] = answer
            attention_mask[row, : lengths[row]] = 1
            first = row * time + len(prompt) - 1  # the last prompt token predicts the first response token
            predictors.append(torch.arange(first, first + len(answer)))
        return ResponseBatch(
            inputs={"input_ids": input_ids, "attention_mask": attention_mask},
            predictors=torch.cat(predictors),
            targets=torch.cat(answers),
            counts=torch.tensor([len(answer) for answer in answers]),
            responses=torch.tensor(list(responses)),
        )

    def num_tokens(self, store: TokenStore, responses: Sequence[int]) -> int:
        """Return rows times the longest row."""
        return len(responses) * int(store.row_lengths[list(responses)].max())
