"""Whether a model can read prompts that its answers share; found out by its configuration, and by trying."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from dpo_lab.scoring.fitting import COARSE_BODY, SAME_BODY, unlike_plain_attention
from dpo_lab.scoring.score import language_model

TRIED = 16  # tokens of a prompt


@contextmanager
def sharing(model: nn.Module) -> Iterator[bool]:
    """Exchange a model's attention for the block; yield whether that is possible."""
    from dpo_lab.sampling.shared_prompts import NAME

    stock = language_model(model)
    before = stock.config._attn_implementation
    try:
        stock.set_attn_implementation(NAME)
        yield stock.config._attn_implementation == NAME
    finally:
        stock.set_attn_implementation(before)


def reason_against_sharing(model: nn.Module, prompt: Sequence[int], longest: int) -> str:
    """Return why answers of a model cannot share their prompt's keys and values, or an empty text.

    A few tokens are read as a whole and as a prompt with two answers: both have to say the same.

    Args:
        prompt: any prompt.
        longest: tokens of the longest prompt and answer.
    """
    from dpo_lab.sampling.shared_prompts import SharedPrompts

    if not hasattr(language_model(model), "set_attn_implementation"):
        return "its attention function cannot be replaced"
    if reason := unlike_plain_attention(model, longest):
        return reason
    some = list(prompt[:TRIED])
    device = next(model.parameters()).device
    answers = torch.tensor([some[0], some[-1]], device=device)
    ids = torch.tensor([[*some, int(token)] for token in answers], device=device)
    try:
        wanted = model(input_ids=ids, use_cache=False).logits[:, -2:].float().log_softmax(-1)
        with sharing(model) as exchanged:
            if not exchanged:
                return "its attention function cannot be replaced"
            tried = SharedPrompts(model, [some], 2, 1)
            read, then = tried.read(), tried.step(answers, torch.full((2,), len(some), device=device))
    except (AttributeError, TypeError, ValueError, IndexError, RuntimeError, NotImplementedError) as error:
        return f"its attention does not take shared prompts, {type(error).__name__}"
    gap = (torch.stack([read, then], 1).float().log_softmax(-1) - wanted).abs().max()
    exact = next(model.parameters()).dtype in (torch.float32, torch.float64)
    return "" if bool(gap <= (SAME_BODY if exact else COARSE_BODY)) else "its log-probabilities would differ"
