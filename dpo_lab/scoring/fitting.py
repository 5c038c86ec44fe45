"""How a model can be scored: with which layout, and whether through its head alone; found out by trying."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from dpo_lab.components import RunError
from dpo_lab.layouts.base import Layout
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.models.load import evaluating
from dpo_lab.scoring.score import language_model, score
from dpo_lab.tokens.store import TokenStore

SAME_HEAD, SAME_BODY = 1e-4, 1e-2
"""Largest gap in nats per token: of two heads over the same hidden states; of two layouts, whose rounding adds up over layers."""
ALONE, COARSE_ALONE = 1e-2, 1.0
"""The same of a response in padded rows and by itself, in full and in half precision, where a router may choose otherwise."""
COARSE_HEAD, COARSE_BODY = 0.25, 0.1
"""The same for weights in half precision: the model's own logits are rounded, each by up to .06 where they are around 30."""


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

    Raises:
        RunError: if no layout would be right: the model cannot be scored, padding changes its scores, or its rotary tables are
            stretched by the longest row of a batch.
    """
    refuse_stretched_positions(model, int(store.row_lengths.max()))
    some = tried(store)
    device, padded = next(model.parameters()).device, PaddedLayout()

    def logps(one: Layout, *, own_logits: bool) -> Tensor:
        return score(model, one.rows(store, some).to(device), own_logits=own_logits).per_token

    exact = next(model.parameters()).dtype in (torch.float32, torch.float64)

    def agree(one: Tensor, other: Tensor, fine: float, coarse: float) -> bool:
        return bool((one - other).abs().max() <= (fine if exact else coarse))

    with evaluating(model), torch.autocast(device.type, enabled=False):
        try:
            truth, through_head = (logps(padded, own_logits=own) for own in (True, False))  # before the attention is exchanged
            alone = [score(model, padded.rows(store, [one]).to(device), own_logits=True).per_token for one in some]
        except (AttributeError, TypeError, ValueError, NotImplementedError, StopIteration) as error:
            raise RunError(unscorable(model, f"{type(error).__name__}: {error}")) from error
        if not agree(torch.cat(alone), truth, ALONE, COARSE_ALONE):
            why = f"a response has other log-probabilities beside a longer one than by itself{from_batch(model)}"
            raise RunError(unscorable(model, why))
        own_logits = not agree(through_head, truth, SAME_HEAD, COARSE_HEAD)
        wanted = truth if own_logits else through_head
        attention = language_model(model).config._attn_implementation
        reason = reason_against(model, layout, store) or read_segments(model, layout)
        if layout.one_row and not (reason or agree(logps(layout, own_logits=own_logits), wanted, SAME_BODY, COARSE_BODY)):
            reason = "its log-probabilities then differ from those of padded rows"
        if reason:
            language_model(model).set_attn_implementation(attention)
    notes = ["this model caps or scales its logits: they are taken from the model, not from its head alone"] if own_logits else []
    if reason:
        notes.append(f"layout={layout.label} does not suit this model ({reason}); layout=padded is used")
    return Fit(padded if reason else layout, own_logits, tuple(notes))


def unscorable(model: nn.Module, why: str) -> str:
    """Return the message about a model that no layout scores right."""
    stock = language_model(model)
    kind = getattr(getattr(stock, "config", None), "model_type", "unknown")
    return (
        f"{type(stock).__name__} (model_type={kind}) cannot be scored, not even in padded rows ({why.splitlines()[0]}). "
        "Use a model of another architecture."
    )


def from_batch(model: nn.Module) -> str:
    """Return which modules take their statistics from the rows of a batch in evaluation mode too, as the end of a sentence."""
    norms = {
        name: module for name, module in model.named_modules() if isinstance(module, _NormBase) and module.running_mean is None
    }
    if not norms:
        return ""
    name, module = next(iter(norms.items()))
    more = f" and {len(norms) - 1} more" if len(norms) > 1 else ""
    return f": {type(module).__name__} without running statistics ({name}{more}) computes with those of the batch"


def tried(store: TokenStore) -> list[int]:
    """Return the responses that are scored to find out: two to one prompt, in rows of middling length."""
    by_length = store.row_lengths.argsort(kind="stable")
    prompt = store.response_prompt[by_length[len(by_length) // 2]]
    found: list[int] = np.flatnonzero(store.response_prompt == prompt)[:2].tolist()
    return found


def made_ready(model: nn.Module, fit: Fit, store: TokenStore) -> nn.Module:
    """Return a model that is scored as another one of its kind is.

    Raises:
        RunError: if it cannot be: the numbers of the two would not compare.
    """
    own = fitted(model, fit.layout, store)
    if (own.layout, own.own_logits) != (fit.layout, fit.own_logits):
        raise RunError(
            f"policy and reference are scored differently: layout={fit.layout.label} suits the one and "
            f"layout={own.layout.label} the other, or only one caps its logits. "
            "Use layout=padded, and a reference of the policy's own architecture."
        )
    return model


def refuse_stretched_positions(model: nn.Module, longest: int) -> None:
    """Raise RunError if rows are so long that the model's rotary tables would depend on the other rows of their batch."""
    config = getattr(language_model(model), "config", None)
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type") if isinstance(rope, dict) else None
    trained = int(rope.get("original_max_position_embeddings") or getattr(config, "max_position_embeddings", None) or longest)
    if kind in ("dynamic", "longrope") and longest > trained:
        raise RunError(
            f"the longest row has {longest} tokens and the model's positions, rope_type={kind}, are stretched beyond {trained} "
            "by the longest row of each batch, so that a score would depend on its neighbours. "
            f"Use recipe.max_length={trained} or less."
        )


def read_segments(model: nn.Module, layout: Layout) -> str:
    """Let the model's attention read rows of segments if the layout makes them; return why it cannot, or an empty text."""
    if not layout.one_row:
        return ""
    from dpo_lab.layouts.attention import NAME
    from dpo_lab.layouts.attention_kernels import FLEX, VARLEN

    name = {"sdpa": NAME, "flex": FLEX, "varlen": VARLEN}[layout.attention]
    stock = language_model(model)
    stock.set_attn_implementation(name)
    return "" if stock.config._attn_implementation == name else "its attention function cannot be replaced"


def attention_of(model: nn.Module) -> str:
    """Return which attention function a model computes with, as people read it."""
    from dpo_lab.layouts.attention import NAME

    name = str(language_model(model).config._attn_implementation)
    return "sdpa, response by response" if name == NAME else name


def reason_against(model: nn.Module, layout: Layout, store: TokenStore) -> str:
    """Return what in a model's configuration speaks against rows of several sequences, or an empty text."""
    return unlike_plain_attention(model, int(store.row_lengths.max())) if layout.one_row else ""


def unlike_plain_attention(model: nn.Module, longest: int) -> str:
    """Return what in a model's configuration is not plain attention over all tokens before, or an empty text.

    Args:
        longest: tokens of the longest row that the model will read.
    """
    config = language_model(model).config
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    if window and window < longest and ("sliding_attention" in kinds or not kinds):
        return f"its sliding window of {window} tokens is shorter than the longest row, {longest}"
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return "its attention is soft-capped"
    if getattr(config, "alibi", False) or config.model_type in ("bloom", "mpt"):
        return "its attention falls off with the distance in the row, ALiBi"
    if others := sorted(kinds - {"full_attention", "sliding_attention"}):
        return f"it has layers that are not plain attention: {', '.join(others)}"
    return ""
