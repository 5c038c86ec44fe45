"""How far a policy has moved: the Kullback-Leibler divergence to another model, on the policy's own answers."""

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


@torch.no_grad()
def divergence(policy: nn.Module, other: nn.Module, store: TokenStore, fit: Fit, keep: Keep = make_now) -> torch.Tensor:
    """Return an estimate of KL(policy || other) per response of a store, in nats, shape (responses,).

    The Rao-Blackwell estimate: at every position of an answer that the policy drew, the exact divergence of the two
    next-token distributions, summed over the answer (Amini et al. 2025, arXiv:2504.10637). It is never negative per
    token and needs a quarter of the samples that log-ratios need.

    Args:
        keep: every batch is computed through it, with its responses as rows.
    """
    device = next(policy.parameters()).device

    def of_batch(responses: list[int]) -> list[float]:
        batch = fit.layout.rows(store, responses)
        moved = batch.to(device)
        chunks = (response_logits(model, moved, own_logits=fit.own_logits) for model in (policy, other))
        per_token = []
        for logits in zip(*chunks, strict=True):
            ours, theirs = (promoted(each).log_softmax(-1) for each in logits)
            per_token.append((ours.exp() * (ours - theirs)).sum(-1).double().cpu())
        owner = torch.arange(len(responses)).repeat_interleave(batch.counts)
        total = torch.zeros(len(responses), dtype=torch.float64).index_add_(0, owner, torch.cat(per_token))
        numbers: list[float] = total.tolist()
        return numbers

    total = torch.zeros(store.num_responses, dtype=torch.float64)
    for responses in batches_of(store, fit.layout):
        total[responses] = torch.tensor(keep(responses, partial(of_batch, responses)), dtype=torch.float64)
    return total


def divergence_of_answers(
    policy: nn.Module, other: nn.Module, store: TokenStore, layout: Layout, directory: Path | None
) -> torch.Tensor:
    """Return the same of two models as they were loaded.

    Args:
        directory: where divergences are kept as they are computed, for a call after a kill; None keeps nothing.
    """
    fit = fitted(policy, layout, store)
    ready = made_ready(other, fit, store)
    with evaluating(policy), evaluating(ready), kept_part("KL", store.num_responses, directory, "responses") as keep:
        return divergence(policy, ready, store, fit, keep)
