"""Hidden states -> head at response positions -> ResponseLogps. The only forward pass of training and reference."""

from typing import Any

import torch
from torch import Tensor, nn

from dpo_lab.layouts.base import ResponseBatch
from dpo_lab.scoring.logps import ResponseLogps, promoted, token_logps

HEAD_TOLERANCE = 1e-4  # nats; beyond it the head path is not what the model means (soft-capped or scaled logits)


def body_and_head(model: nn.Module) -> tuple[Any, Any]:
    """Return a causal language model's body (ids to hidden states) and head (hidden states to logits).

    Works through PEFT wrappers: adapters sit inside the body's layers.
    """
    whole: Any = model
    language_model = whole.get_base_model() if hasattr(whole, "get_base_model") else whole
    return getattr(language_model, language_model.base_model_prefix), language_model.get_output_embeddings()


def response_logits(model: nn.Module, batch: ResponseBatch, *, own_logits: bool = False) -> Tensor:
    """Return logits at the positions that predict response tokens, shape (tokens, vocab).

    Args:
        own_logits: use `model(...).logits` instead of the head applied to chosen positions; for models whose
            logits are more than that (`needs_own_logits` tells), and for models without a body.
    """
    if own_logits:
        logits = model(**batch.inputs, use_cache=False).logits
        chosen: Tensor = logits.flatten(0, 1).index_select(0, batch.predictors)
        return chosen
    body, head = body_and_head(model)
    hidden = body(**batch.inputs, use_cache=False).last_hidden_state
    made: Tensor = head(hidden.flatten(0, 1).index_select(0, batch.predictors))
    return made


def score(model: nn.Module, batch: ResponseBatch, *, own_logits: bool = False, full_softmax: bool = False) -> ResponseLogps:
    """Return the log-probabilities of a batch's responses under a model, at least float32.

    Args:
        own_logits: see `response_logits`.
        full_softmax: also return the log of the sum of squared probabilities at each position, without gradient.
    """
    logits = response_logits(model, batch, own_logits=own_logits)
    with torch.autocast(logits.device.type, enabled=False):
        squares = None
        if full_softmax:
            with torch.no_grad():
                squares = (2 * promoted(logits).log_softmax(-1)).logsumexp(-1)
        return ResponseLogps(token_logps(logits, batch.targets), batch.counts, squares)


@torch.no_grad()
def needs_own_logits(model: nn.Module, batch: ResponseBatch) -> bool:
    """Return whether the head path disagrees with the model's own logits on a batch by more than `HEAD_TOLERANCE` nats.

    Gemma-2, Cohere and Granite cap or scale logits after the head.
    """
    gap = score(model, batch).per_token - score(model, batch, own_logits=True).per_token
    tolerance = HEAD_TOLERANCE if next(model.parameters()).dtype in (torch.float32, torch.float64) else 5e-2
    return bool(gap.abs().max() > tolerance)
