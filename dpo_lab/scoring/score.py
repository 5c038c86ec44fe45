"""Hidden states -> head at response positions -> ResponseLogps. The only forward pass of training and reference."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dpo_lab.layouts.base import ResponseBatch
from dpo_lab.models.adapted import in_use
from dpo_lab.scoring.head import head_logps, log_sum_squares, tokens_of_chunk, vocabulary_of
from dpo_lab.scoring.logps import ResponseLogps, token_logps


def language_model(model: nn.Module) -> Any:
    """Return the model inside a PEFT wrapper, or the model itself."""
    whole: Any = model
    return whole.get_base_model() if hasattr(whole, "get_base_model") else whole


def body_and_head(model: nn.Module) -> tuple[Any, Any]:
    """Return a causal language model's body (ids to hidden states) and head (hidden states to logits).

    Works through PEFT wrappers: adapters sit inside the body's layers.
    """
    stock = language_model(model)
    body = getattr(stock, stock.base_model_prefix, None)
    if body is None:  # Llama4ForCausalLM gives the name that its body has elsewhere
        body = next(part for part in stock.children() if hasattr(part, "get_input_embeddings"))
    return body, in_use(stock.get_output_embeddings())


def response_logits(model: nn.Module, batch: ResponseBatch, *, own_logits: bool = False) -> Iterator[Tensor]:
    """Yield logits at the positions that predict response tokens, (tokens, vocab), at most `head.CHUNK` of them at a time.

    Args:
        own_logits: see `score`; the model then makes all of them at once.
    """
    if own_logits:
        logits = model(**batch.inputs, use_cache=False).logits.flatten(0, 1).index_select(0, batch.predictors)
        yield from logits.split(tokens_of_chunk(logits.shape[-1]))
    else:
        head, hidden = _head_and_hidden(model, batch)
        yield from (head(part) for part in hidden.split(tokens_of_chunk(vocabulary_of(head))))


def score(model: nn.Module, batch: ResponseBatch, *, own_logits: bool = False, full_softmax: bool = False) -> ResponseLogps:
    """Return the log-probabilities of a batch's responses under a model, at least float32.

    Args:
        own_logits: take `model(...).logits` at all positions instead of the head at chosen ones; for models whose logits are
            more than that (`scoring.fitting` tells), and for models without a body.
        full_softmax: also return the log of the sum of squared probabilities at each position, without gradient.
    """
    if own_logits:
        logits = model(**batch.inputs, use_cache=False).logits.flatten(0, 1).index_select(0, batch.predictors)
        with torch.autocast(logits.device.type, enabled=False):
            squares = log_sum_squares(logits) if full_softmax else None
            return ResponseLogps(token_logps(logits, batch.targets), batch.counts, squares)
    head, hidden = _head_and_hidden(model, batch)
    per_token, squares = head_logps(head, hidden, batch.targets, full_softmax=full_softmax)
    return ResponseLogps(per_token, batch.counts, squares)


def _head_and_hidden(model: nn.Module, batch: ResponseBatch) -> tuple[Any, Tensor]:
    body, head = body_and_head(model)
    hidden = body(**batch.inputs, use_cache=False).last_hidden_state
    return head, hidden.flatten(0, 1).index_select(0, batch.predictors)
