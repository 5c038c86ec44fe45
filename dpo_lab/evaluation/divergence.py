"""How far a policy has moved: the Kullback-Leibler divergence to another model, on the policy's own answers."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from dpo_lab.continuing import Keep, kept_part, make_now
from dpo_lab.layouts.base import Layout
from dpo_lab.models.load import evaluating
from dpo_lab.scoring.fitting import Fit, fitted, made_ready
from dpo_lab.scoring.logps import promoted
from dpo_lab.scoring.passes import batches_of
from dpo_lab.scoring.score import response_logits
from dpo_lab.tokens.store import TokenStore

HUGE = 80.0  # nats: beyond e^88 float32 is infinite


@dataclass(frozen=True)
class Divergence:
    """Estimates of KL(policy || other) from answers that the policy drew, in nats, each of shape (responses,)."""

    kl: torch.Tensor
    """Rao-Blackwell: at every position of an answer the exact divergence of the two next-token distributions, summed over the
    answer (Amini et al. 2025, arXiv:2504.10637). Never negative; needs a quarter of the samples that log-ratios need."""
    k1: torch.Tensor
    """log policy - log other of the tokens drawn, summed: unbiased, and negative for some answers."""
    k3: torch.Tensor
    """ratio - 1 - log ratio of other to policy, summed over the tokens drawn (Schulman 2020): never negative, far tails."""
    surprise: torch.Tensor
    """-log other of the tokens drawn, summed: its mean per token is the log of the other model's perplexity."""


@torch.no_grad()
def divergence(policy: nn.Module, other: nn.Module, store: TokenStore, fit: Fit, keep: Keep = make_now) -> Divergence:
    """Return estimates of KL(policy || other) for each response of a store.

    Args:
        keep: every batch is computed through it, with its responses as rows.
    """
    device = next(policy.parameters()).device

    def of_batch(responses: list[int]) -> list[list[float]]:
        batch = fit.layout.rows(store, responses)
        moved = batch.to(device)
        chunks = (response_logits(model, moved, own_logits=fit.own_logits) for model in (policy, other))
        per_token, start = [], 0
        for logits in zip(*chunks, strict=True):
            ours, theirs = (promoted(logit).log_softmax(-1) for logit in logits)
            drawn = moved.targets[start : start + len(ours), None]
            start += len(ours)
            ratio = (theirs.gather(-1, drawn) - ours.gather(-1, drawn)).squeeze(-1).double()
            exact = (ours.exp() * (ours - theirs)).sum(-1).double().clamp(min=0)  # rounding alone makes it negative
            surprise = -theirs.gather(-1, drawn).squeeze(-1).double()
            per_token.append(torch.stack([exact, -ratio, ratio.clamp(max=HUGE).expm1() - ratio, surprise], dim=1).cpu())
        owner = torch.arange(len(responses)).repeat_interleave(batch.counts)
        total = torch.zeros(len(responses), 4, dtype=torch.float64).index_add_(0, owner, torch.cat(per_token))
        numbers: list[list[float]] = total.tolist()
        return numbers

    total = torch.zeros(store.num_responses, 4, dtype=torch.float64)
    for responses in batches_of(store, fit.layout):
        total[responses] = torch.tensor(keep(responses, partial(of_batch, responses)), dtype=torch.float64)
    return Divergence(*total.unbind(1))


def divergence_of_answers(
    policy: nn.Module, other: nn.Module, store: TokenStore, layout: Layout, directory: Path | None, name: str = "KL"
) -> Divergence:
    """Return the same of two models as they were loaded.

    Args:
        name: what the progress calls this part.
        directory: where divergences are kept as they are computed, for a call after a kill; None keeps nothing.
    """
    fit = fitted(policy, layout, store)
    ready = made_ready(other, fit, store)
    with evaluating(policy), evaluating(ready), kept_part(name, store.num_responses, directory, "responses") as keep:
        return divergence(policy, ready, store, fit, keep)
