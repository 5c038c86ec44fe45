"""Attention whose scores are capped, as in Gemma 2: no model computes it with a function that leaves the cap out."""

from typing import Any


def with_soft_cap(model: Any) -> Any:
    """Return a loaded model, with transformers' plain attention where its scores are capped and `sdpa` would compute it.

    `scaled_dot_product_attention` knows no cap. transformers 5.17 chooses it for such a model all the same and trains on other
    scores without a word; 5.23 chooses `eager` itself. This can go when the oldest supported release does so too.
    """
    capped = getattr(model.config, "attn_logit_softcapping", None) is not None
    if capped and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation("eager")
    return model
