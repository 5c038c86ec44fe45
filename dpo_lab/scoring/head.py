"""The head at response positions: hidden states to log-probabilities, the vocabulary never wider than one chunk of tokens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from dpo_lab.scoring.logps import promoted, token_logps

CHUNK = 2**25
"""Logits at a time: 128 MiB in float32, 1048 tokens of a vocabulary of 32,000."""

_TOKENS: ContextVar[int | None] = ContextVar("head_tokens", default=None)

TokenLogps = tuple[Tensor, Tensor | None]
"""(tokens,) log p(target), and the log of the sum of squared probabilities where it was asked for."""


def head_logps(head: nn.Module, hidden: Tensor, targets: Tensor, *, full_softmax: bool = False) -> TokenLogps:
    """Return the log-probabilities of targets, at least float32; the same numbers as head, softmax and gather.

    Args:
        hidden: (tokens, size) hidden states that predict the targets.
        targets: (tokens,) token ids.
        full_softmax: also return the log of the sum of squared probabilities at each position, without gradient.
    """
    if type(head).forward is nn.Linear.forward:
        weight, bias = head.weight, head.bias
        return LinearLogps.apply(hidden, weight, bias, targets, full_softmax, torch.is_grad_enabled())  # type: ignore[no-any-return,no-untyped-call]
    # an adapter on the head, quantised weights: their own forward, computed again for the gradient
    size = tokens_of_chunk(vocabulary_of(head))
    parts = [
        checkpoint(_through_head, head, hidden[part], targets[part], full_softmax, use_reentrant=False)
        for part in _chunks(len(targets), size)
    ]
    per_token, squares = zip(*parts, strict=True)
    return torch.cat(per_token), torch.cat(squares) if full_softmax else None


def _through_head(head: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor, full_softmax: bool) -> TokenLogps:
    logits = promoted(head(hidden))
    return token_logps(logits, targets), log_sum_squares(logits) if full_softmax else None


@torch.no_grad()
def log_sum_squares(logits: Tensor) -> Tensor:
    """Return log of the sum over the vocabulary of p^2 at each position, without gradient."""
    return (2 * promoted(logits).log_softmax(-1)).logsumexp(-1)


def vocabulary_of(head: nn.Module) -> int:
    """Return how many logits a head makes for a token."""
    if type(head).forward is nn.Linear.forward:  # `out_features` of a head that peft ties to trained embeddings is the width
        return cast(nn.Linear, head).weight.shape[0]
    return int(getattr(head, "out_features", 2**16))  # not the shape of the weight, which 4-bit layers pack


@contextmanager
def tokens_at_once(tokens: int | None) -> Iterator[None]:
    """Have the head take so many response tokens at a time for the block; None: as many as make `CHUNK` logits."""
    before = _TOKENS.set(tokens)
    try:
        yield
    finally:
        _TOKENS.reset(before)


def tokens_of_chunk(vocab: int) -> int:
    """Return how many tokens are taken at a time."""
    return _TOKENS.get() or max(1, CHUNK // vocab)


def _chunks(tokens: int, size: int) -> Iterator[slice]:
    for start in range(0, tokens, size):
        yield slice(start, start + size)


class LinearLogps(torch.autograd.Function):
    """Log p(target) of a linear head, chunk by chunk, with the gradient made from the probabilities of a chunk.

    The last chunk's probabilities are kept for the backward pass, those of the chunks before are computed again: a micro-batch
    whose response tokens fit one chunk needs three products with the head's weight instead of four, for any loss.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, full_softmax: bool, keep: bool
    ) -> TokenLogps:
        """Return log-probabilities (tokens,) and squares."""
        kind = hidden.device.type
        ctx.dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        size = tokens_of_chunk(weight.shape[0])
        per_token, squares = [], []
        with torch.autocast(kind, enabled=False):
            chunks = list(_chunks(len(targets), size))
            for chunk in chunks:
                exponentials = _logits(hidden[chunk], weight, bias, ctx.dtype)
                target = exponentials.gather(-1, targets[chunk].unsqueeze(-1)).squeeze(-1)
                if full_softmax:
                    squares.append(log_sum_squares(exponentials))
                highest = exponentials.amax(-1, keepdim=True)
                total = exponentials.sub_(highest).exp_().sum(-1, keepdim=True)
                per_token.append(target - highest.squeeze(-1) - total.log().squeeze(-1))
        ctx.chunks, ctx.kept = chunks, None
        if keep:
            ctx.kept = (exponentials, total)
            ctx.save_for_backward(hidden, weight, bias, targets)
        squared = torch.cat(squares) if full_softmax else None
        if squared is not None:
            ctx.mark_non_differentiable(squared)
        return torch.cat(per_token), squared

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_logp: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradients by hidden states, weight and bias."""
        hidden, weight, bias, targets = ctx.saved_tensors
        by_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        by_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        by_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        kept, ctx.kept = ctx.kept, None  # changed in place below: a second backward pass computes all chunks again
        with torch.autocast(hidden.device.type, enabled=False):
            for chunk in reversed(ctx.chunks):
                if kept is None:
                    by_logit = _logits(hidden[chunk], weight, bias, ctx.dtype).softmax(-1).mul_(-by_logp[chunk].unsqueeze(-1))
                else:
                    exponentials, total = kept
                    by_logit, kept = exponentials.mul_(-by_logp[chunk].unsqueeze(-1) / total), None
                by_logit.scatter_add_(-1, targets[chunk].unsqueeze(-1), by_logp[chunk].unsqueeze(-1))
                by_logit = by_logit.to(ctx.dtype)
                if by_hidden is not None:
                    by_hidden[chunk] = by_logit @ weight.to(ctx.dtype)
                if by_weight is not None:
                    product = by_logit.t() @ hidden[chunk].to(ctx.dtype)
                    by_weight += product
                if by_bias is not None:
                    by_bias += by_logit.sum(0)
        return by_hidden, by_weight, by_bias, None, None, None


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return logits whose products have factors of `dtype`; they are added up and kept in at least float32.

    A logit of 16 that is rounded to bf16 is off by up to .06: nine tenths of all that bf16 does to the margin of a pair
    (tiny model, film pairs: .060 nats root mean square with rounded logits, .017 so).
    """
    if dtype not in (torch.float16, torch.bfloat16):
        logits = hidden.to(dtype) @ weight.to(dtype).t()
    elif hidden.is_cuda:
        logits = torch.mm(hidden.to(dtype), weight.to(dtype).t(), out_dtype=torch.float32)
    elif dtype == torch.float16:  # a CPU's float32 product knows no factors in fp16: they are rounded first
        logits = hidden.half().float() @ weight.half().float().t()
    else:
        with _factors_in_bf16():
            logits = hidden.float() @ weight.float().t()
    return logits if bias is None else logits.add_(bias)


@contextmanager
def _factors_in_bf16() -> Iterator[None]:
    """Let float32 products on a CPU round their factors to bf16 where it has instructions for those; sums stay float32."""
    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # not in its stubs
    before, products.fp32_precision = products.fp32_precision, "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before
