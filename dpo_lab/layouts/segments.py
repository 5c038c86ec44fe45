"""Rows without padding: all sequences of a batch in one row, responses after the prompt that they share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from dpo_lab.layouts.base import ResponseBatch
from dpo_lab.tokens.store import TokenStore

Made = TypeVar("Made")


@dataclass(frozen=True)
class Segments:
    """Who sees whom in one row: a response sees its prompt and itself, nothing else of the row."""

    groups: tuple[tuple[int, tuple[int, ...]], ...]
    """In the order of the row: tokens of a prompt, tokens of each response that follows it."""
    _kept: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def kept(self, name: Any, device: torch.device, make: Callable[[], Made]) -> Made:
        """Return what an attention function needs of these segments on a device; made for the first layer, kept for all."""
        key = (name, device)
        if key not in self._kept:
            self._kept[key] = make()
        made: Made = self._kept[key]
        return made

    def mask(self, prompt: int, response: int, device: torch.device) -> Tensor:
        """Return which of [prompt | response] a response's tokens see, (response, prompt + response)."""

        def made() -> Tensor:
            return torch.ones(response, prompt + response, dtype=torch.bool, device=device).tril(prompt)

        return self.kept((prompt, response), device, made)


def segment_rows(store: TokenStore, groups: Iterable[Sequence[int]], responses: Sequence[int]) -> ResponseBatch:
    """Return one row that scores some responses of a store.

    Positions restart after the prompt for each response, so that every response has the positions it would have alone.

    Args:
        groups: the responses, those of a group share one copy of their prompt.
        responses: the same responses in the order in which the batch lists them.
    """
    ids: list[Tensor] = []
    positions: list[Tensor] = []
    predictors: dict[int, Tensor] = {}
    answers: dict[int, Tensor] = {}
    segments: list[tuple[int, tuple[int, ...]]] = []
    at = 0
    for group in groups:
        prompt = torch.from_numpy(store.prompt_of(group[0]).astype("int64"))
        last = torch.tensor([at + len(prompt) - 1])  # the prompt's last token predicts the first of every response
        ids.append(prompt)
        positions.append(torch.arange(len(prompt)))
        at += len(prompt)
        for response in group:
            answer = torch.from_numpy(store.response(response).astype("int64"))
            ids.append(answer)
            positions.append(torch.arange(len(prompt), len(prompt) + len(answer)))
            predictors[response] = torch.cat([last, torch.arange(at, at + len(answer) - 1)])
            answers[response] = answer
            at += len(answer)
        segments.append((len(prompt), tuple(len(answers[response]) for response in group)))
    return ResponseBatch(
        inputs={
            "input_ids": torch.cat(ids).unsqueeze(0),
            "position_ids": torch.cat(positions).unsqueeze(0),
            # four dimensions: the library takes it for a finished mask and builds none of (tokens, tokens)
            "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool),
            "segments": Segments(tuple(segments)),
        },
        predictors=torch.cat([predictors[response] for response in responses]),
        targets=torch.cat([answers[response] for response in responses]),
        counts=torch.tensor([len(answers[response]) for response in responses]),
        responses=torch.tensor(list(responses)),
    )
