"""How a model can be scored: with which layout, and whether through its head alone; found out by trying."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dpo_lab.layouts.base import Layout
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.models.load import evaluating
from dpo_lab.scoring.score import language_model, score
from dpo_lab.tokens.store import TokenStore

SAME_HEAD, SAME_BODY = 1e-4, 1e-2
"""Largest gap in nats per token: of two heads over the same hidden states; of two layouts, whose rounding adds up over layers."""
COARSE = 0.1  # both, for weights in half precision or fewer bits


@dataclass(frozen=True)
class Fit:
    """How a model is scored."""

    layout: Layout
    """The layout that was asked for, or the padded one where the model cannot read it."""
    own_logits: bool
    """Whether the model's logits are more than its head applied to hidden states (soft-capped or scaled: Gemma-2, Cohere)."""
    notes: tuple[str, ...] = ()
    """What differs from what was asked for, and why."""


def fitted(model: nn.Module, layout: Layout, store: TokenStore) -> Fit:
    """Return how a model is scored; the model's attention function is set to what the layout needs.

    Two responses to one prompt are scored by the model's own logits in padded rows, which is right for every model, and in
    the way that is asked for. Where they disagree, the padded rows are kept, the head is given up, or both.
    """
    by_length = store.row_lengths.argsort(kind="stable")
    prompt = store.response_prompt[by_length[len(by_length) // 2]]  # of a row of middling length
    some = np.flatnonzero(store.response_prompt == prompt)[:2].tolist()
    device, padded = next(model.parameters()).device, PaddedLayout()

    def logps(one: Layout, *, own_logits: bool) -> Tensor:
        return score(model, one.rows(store, some).to(device), own_logits=own_logits).per_token

    exact = next(model.parameters()).dtype in (torch.float32, torch.float64)

    def agrees(one: Layout, tolerance: float, *, own_logits: bool) -> bool:
        gap = (logps(one, own_logits=own_logits) - truth).abs().max()
        return bool(gap <= (tolerance if exact else COARSE))

    with evaluating(model), torch.autocast(device.type, enabled=False):
        truth = logps(padded, own_logits=True)
        attention = language_model(model).config._attn_implementation
        reason = reason_against(model, layout, store) or read_segments(model, layout)
        if not reason and agrees(layout, SAME_HEAD, own_logits=False):
            return Fit(layout, own_logits=False)
        own_logits = not agrees(padded, SAME_HEAD, own_logits=False)
        if not reason and layout.one_row and not agrees(layout, SAME_BODY, own_logits=own_logits):
            reason = "its log-probabilities then differ from those of padded rows"
    notes = ["this model caps or scales its logits: they are taken from the model, not from its head alone"] if own_logits else []
    if reason:
        language_model(model).set_attn_implementation(attention)
        notes.append(f"layout={layout.label} does not suit this model ({reason}); layout=padded is used")
    return Fit(padded if reason else layout, own_logits, tuple(notes))


def made_ready(model: nn.Module, layout: Layout, store: TokenStore) -> nn.Module:
    """Return a model that reads the same rows as another one of its kind, whose `Fit` is known."""
    fitted(model, layout, store)
    return model


def read_segments(model: nn.Module, layout: Layout) -> str:
    """Let the model's attention read rows of segments if the layout makes them; return why it cannot, or an empty text."""
    if not layout.one_row:
        return ""
    from dpo_lab.layouts.attention import NAME

    stock = language_model(model)
    stock.set_attn_implementation(NAME)
    return "" if stock.config._attn_implementation == NAME else "its attention function cannot be replaced"


def reason_against(model: nn.Module, layout: Layout, store: TokenStore) -> str:
    """Return what in a model's configuration speaks against rows of several sequences, or an empty text."""
    if not layout.one_row:
        return ""
    config = language_model(model).config
    kinds = set(getattr(config, "layer_types", None) or ())
    window, longest = getattr(config, "sliding_window", None), int(store.row_lengths.max())
    if window and window < longest and ("sliding_attention" in kinds or not kinds):
        return f"its sliding window of {window} tokens is shorter than the longest row, {longest}"
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return "its attention is soft-capped"
    if getattr(config, "alibi", False) or config.model_type in ("bloom", "mpt"):
        return "its attention falls off with the distance in the row, ALiBi"
    if others := sorted(kinds - {"full_attention", "sliding_attention"}):
        return f"it has layers that carry a state along the row: {', '.join(others)}"
    return ""
