"""Log-probabilities of held-out pairs under a policy and under its reference."""

from pathlib import Path

import torch
from torch import nn

from dpo_lab.continuing import kept_part
from dpo_lab.reference.base import ReferenceScorer
from dpo_lab.scoring.fitting import Fit
from dpo_lab.scoring.logps import PairLogps
from dpo_lab.scoring.passes import keeping, score_store, scorer_of
from dpo_lab.tokens.labels import labels_of
from dpo_lab.tokens.store import TokenStore


@torch.no_grad()
def held_out_logps(
    policy: nn.Module,
    reference: ReferenceScorer,
    store: TokenStore,
    fit: Fit,
    *,
    full_softmax: bool = False,
    directory: Path | None = None,
) -> tuple[PairLogps, PairLogps]:
    """Return what a policy in eval mode and its reference say of a store's pairs, with the pairs' labels.

    Every response is scored once, whatever number of pairs it stands in.

    Args:
        full_softmax: whether the loss reads the policy's whole distribution.
        directory: where log-probabilities are kept as they are computed, for a call after a kill; None keeps nothing.
    """
    device = next(policy.parameters()).device
    pairs, labels = torch.from_numpy(store.pairs.copy()), labels_of(store, range(store.num_pairs)).of_pairs
    of_policy = scorer_of(policy, own_logits=fit.own_logits, full_softmax=full_softmax)
    both = []
    for name, scorer in (("policy", of_policy), ("reference", reference.to(device))):
        with kept_part(f"evaluate {name}", store.num_responses, directory, "responses") as keep:
            both.append(PairLogps(score_store(keeping(scorer, keep), store, fit.layout, device), pairs, labels))
    return both[0], both[1]
