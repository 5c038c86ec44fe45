"""Counts what a contestant spends: CPU seconds per epoch, the reference's share of them, tokens through body and head."""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn


class Meter:
    """Counts, per epoch, CPU seconds of everything and of the reference, and tokens through body and head.

    A contestant says where its reference is computed: in a model's forwards without gradients, or in a function.
    """

    def __init__(self) -> None:
        self.epoch_seconds: list[float] = []
        self.reference_seconds: list[float] = []
        self.body_tokens = self.head_tokens = 0
        self.reference = 0.0
        self._began = self._forward = 0.0

    def time_reference(self, model: nn.Module) -> None:
        """Count the seconds of a model's forwards without gradients as the reference's."""
        model.register_forward_pre_hook(self._starts)
        model.register_forward_hook(self._ends)

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose seconds count as the reference's."""

        @wraps(function)
        def call(*positional: Any, **named: Any) -> Any:
            began = time.process_time()
            try:
                return function(*positional, **named)
            finally:
                self.reference += time.process_time() - began

        return call

    def count_tokens(self, body: nn.Module, head: nn.Module | None = None) -> None:
        """Count the positions that forwards with gradients send through a model's parts."""
        body.register_forward_pre_hook(self._count_body, with_kwargs=True)
        if head is not None:
            head.register_forward_pre_hook(self._count_head)

    def begin_epoch(self) -> None:
        """Start counting anew."""
        self.body_tokens = self.head_tokens = 0
        self.reference, self._began = 0.0, time.process_time()

    def end_epoch(self) -> None:
        """Keep the seconds of the epoch."""
        self.epoch_seconds.append(time.process_time() - self._began)
        self.reference_seconds.append(self.reference)

    def _starts(self, *_: Any) -> None:
        self._forward = time.process_time()

    def _ends(self, *_: Any) -> None:
        if not torch.is_grad_enabled():
            self.reference += time.process_time() - self._forward

    def _count_body(self, _: nn.Module, positional: tuple[Tensor, ...], named: dict[str, Any]) -> None:
        if torch.is_grad_enabled():
            ids = named.get("input_ids")
            self.body_tokens += (positional[0] if ids is None else ids).numel()

    def _count_head(self, _: nn.Module, positional: tuple[Tensor, ...]) -> None:
        if torch.is_grad_enabled():
            self.head_tokens += positional[0].shape[:-1].numel()
