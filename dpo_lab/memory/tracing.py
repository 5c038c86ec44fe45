"""The memory of a forward and backward pass, followed without computing: the code of training runs on tensors without numbers."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from dpo_lab.layouts.base import Layout, ResponseBatch
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.scoring.fitting import read_segments, tried
from dpo_lab.scoring.head import tokens_at_once
from dpo_lab.scoring.score import body_and_head, score
from dpo_lab.tokens.store import TokenStore


@dataclass(frozen=True)
class Pass:
    """What passes over a micro-batch take beside weights and gradients, in bytes."""

    activations: float
    """What the body keeps for its backward pass."""
    peak: float
    """The most at any moment of both passes, the activations included: the head's logits and their gradients, products."""
    scoring: float
    """The most at any moment of a forward pass without gradients over a model as it was loaded."""
    cast: float
    """Of that, copies of weights in half precision, which stay until the last such pass of a part."""


class Live(TorchDispatchMode):
    """Counts the bytes of tensors that are alive, and their most; those that were there before are not counted."""

    def __init__(self, there: list[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: dict[int, Any] = {tensor.untyped_storage()._cdata: tensor for tensor in there}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known[key] = weakref.ref(storage, lambda _: self._gone(key, size))
            self.now += size
            self.peak = max(self.peak, self.now)

    def _gone(self, key: int, size: int) -> None:
        self.now -= size
        self._known.pop(key, None)


def follow(
    policy: nn.Module,
    layout: Layout,
    store: TokenStore,
    responses: list[int],
    *,
    scored: list[int],
    device: str,
    half: bool,
    accumulates: bool,
    compares: bool,
    head_tokens: int | None = None,
) -> Pass:
    """Return what passes over some responses take.

    Args:
        policy: an outline on the device `meta`; it is changed.
        scored: the responses of a pass without gradients.
        device: the kind of device that kernels are chosen for.
        half: whether products are computed in bf16 or fp16.
        accumulates: whether gradients of micro-batches before are there when one begins.
        compares: whether a reference is scored between the policy's forward and backward pass.
        head_tokens: response tokens that the head takes at a time in training; None: the default, as in scoring.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        filled(policy, device)

        def rows(of: list[int], one: Layout = layout) -> ResponseBatch:
            return without_numbers(one.rows(store, of), mode, device)

        trying = most_of_trial(policy, rows(tried(store), PaddedLayout()))
        # FlexAttention is compiled, which works on numbers only; FlashAttention keeps the same: queries, keys, values and results
        any_layout: Any = layout
        read_segments(policy, replace(any_layout, attention="varlen") if layout.attention == "flex" else layout)
        if accumulates:
            for weight in policy.parameters():
                weight.grad = torch.empty_like(weight) if weight.requires_grad else None
        autocast = torch.autocast(device, torch.bfloat16, enabled=half)
        with tokens_at_once(head_tokens):
            activations, peak = of_training(policy, rows(responses), autocast, compares=compares)
        scoring, cast = of_scoring(policy, rows(scored), autocast)
        return Pass(activations, peak, max(scoring, trying), cast)


def tensors_of(policy: nn.Module) -> list[torch.Tensor]:
    """Return a model's weights, buffers and gradients."""
    gradients = [weight.grad for weight in policy.parameters() if weight.grad is not None]
    return [*policy.parameters(), *policy.buffers(), *gradients]


def most_of_trial(policy: nn.Module, batch: ResponseBatch) -> float:
    """Return the most of a forward pass with the attention that the model came with, which decides how it is scored."""
    with Live(tensors_of(policy)) as live, torch.no_grad():
        score(policy, batch, own_logits=True)
    return float(live.peak)


def of_training(policy: nn.Module, batch: ResponseBatch, autocast: torch.autocast, *, compares: bool) -> tuple[float, float]:
    """Return what the body keeps for its backward pass, and the most of both passes; gradients are there afterwards."""
    live, kept = Live(tensors_of(policy)), list[int]()
    hook = body_and_head(policy)[0].register_forward_hook(lambda *_: kept.append(live.now))
    with live, autocast:
        per_token = score(policy, batch).per_token
        if compares:
            with torch.no_grad():
                score(policy, batch)
        per_token.sum().backward()
    hook.remove()
    return kept[0], live.peak


def of_scoring(policy: nn.Module, batch: ResponseBatch, autocast: torch.autocast) -> tuple[float, float]:
    """Return the most of a forward pass without gradients, and what copies of weights in half precision take of it."""
    policy.requires_grad_(True)  # as it is loaded, and autocast keeps copies of trained weights alone
    with Live(tensors_of(policy)) as live, autocast, torch.no_grad():
        score(policy, batch)
        return live.peak, live.now


def filled(model: nn.Module, device: str) -> None:
    """Exchange the weights and buffers of an outline for tensors of the mode's kind; shared ones stay shared."""
    known: dict[int, Any] = {}
    for module in model.modules():
        for tensors, make in ((module._parameters, parameter), (module._buffers, lambda made, _: made)):
            for name, tensor in tensors.items():
                if tensor is not None:
                    made = known.setdefault(id(tensor), None)
                    if made is None:
                        made = make(torch.empty(tensor.shape, dtype=tensor.dtype, device=device), tensor)
                        known[id(tensor)] = made
                    tensors[name] = made


def parameter(made: torch.Tensor, like: torch.Tensor) -> nn.Parameter:
    """Return a tensor as a parameter that is trained if another one is."""
    return nn.Parameter(made, requires_grad=like.requires_grad)


def without_numbers(batch: ResponseBatch, mode: FakeTensorMode, device: str) -> ResponseBatch:
    """Return a batch on a device that need not be there."""

    def moved(part: Any) -> Any:
        if not isinstance(part, torch.Tensor):
            return part
        with mode:  # made there, not moved there: torch refuses to move to a kind of device that it was built without
            return torch.empty_strided(part.size(), part.stride(), dtype=part.dtype, device=device)

    inputs = {name: moved(part) for name, part in batch.inputs.items()}
    return ResponseBatch(inputs, moved(batch.predictors), moved(batch.targets), batch.counts, batch.responses)


def extrapolated(trace: Callable[[int], Pass], layers: int) -> Pass:
    """Return what a model of so many equal layers takes: from the second layer on, every figure is a line in the layers."""
    if layers <= 3:
        return trace(layers)
    second, third = trace(2), trace(3)

    def line(two: float, three: float) -> float:
        return two + (three - two) * (layers - 2)

    return Pass(*(line(getattr(second, field.name), getattr(third, field.name)) for field in fields(Pass)))
