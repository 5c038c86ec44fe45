"""Which tokens a policy's preference stands on: log-ratios to the reference, token by token, of a few held-out pairs."""

from collections.abc import Mapping
from typing import Any

import torch

from dpo_lab.scoring.logps import PairLogps
from dpo_lab.tokens.store import TokenStore

EACH = 3
"""Pairs at each end: those that the policy ranks best, and worst."""
MAX_TOKENS = 400
"""Of a response; the log-ratios of the rest are added up."""


@torch.no_grad()
def token_credit(policy: PairLogps, reference: PairLogps, store: TokenStore) -> list[dict[str, Any]]:
    """Return the pairs with the largest margins and those with the smallest, with the log-ratio of each token.

    The implicit reward of a response is beta times the sum of its tokens' log-ratios, log policy - log reference (Rafailov et al.
    2024, arXiv:2404.12358), so that each is that token's share of it.

    Returns:
        Per pair `end` (best or worst), `margin` in nats, `prompt` (token ids), and for `chosen` and `rejected` the token
        `ids`, their `ratios` in nats, and `rest`, the sum over tokens that are left out.
    """
    ratios = policy.responses.per_token - reference.responses.per_token
    ends = policy.responses.counts.cumsum(0).tolist()
    margins = (policy.margin - reference.margin).tolist()
    ordered = sorted(range(len(margins)), key=lambda pair: (-margins[pair], pair))
    worst = ordered[max(EACH, len(ordered) - EACH) :][::-1]

    def side(response: int) -> dict[str, Any]:
        ids = store.response(response).tolist()
        each = ratios[ends[response] - len(ids) : ends[response]].double().tolist()
        shown = [round(ratio, 4) for ratio in each[:MAX_TOKENS]]
        return {
            "ids": ids[:MAX_TOKENS],
            "ratios": shown,
            "rest": round(sum(each[MAX_TOKENS:]), 4),
            "left_out": len(ids[MAX_TOKENS:]),
        }

    found = []
    for end, some in (("best", ordered[:EACH]), ("worst", worst)):
        for pair in some:
            chosen, rejected = policy.pairs[pair].tolist()
            about: Mapping[str, Any] = {"end": end, "margin": margins[pair], "prompt": store.prompt_of(chosen).tolist()}
            found.append({**about, "chosen": side(chosen), "rejected": side(rejected)})
    return found
