"""What equality of layouts means: the loss and every gradient tensor of a step, against the naive computation."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpo_lab.layouts.base import Layout
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.adapter import Adapter
from dpo_lab.scoring.fitting import fitted
from dpo_lab.scoring.logps import PairLogps, ResponseLogps
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore

BETA = 0.1


@dataclass(frozen=True)
class Step:
    """Loss and gradients of one optimizer step."""

    loss: float
    gradients: dict[str, Tensor]

    def gap(self, other: "Step") -> float:
        """Return the largest relative difference over loss and gradient tensors."""
        assert self.gradients.keys() == other.gradients.keys()
        relative = [float((mine - other.gradients[name]).norm() / mine.norm()) for name, mine in self.gradients.items()]
        return max(abs(self.loss - other.loss) / abs(self.loss), *relative)


def policy_of(model: nn.Module, adapter: Adapter, dtype: torch.dtype) -> nn.Module:
    """Return a policy that differs from the model: of its dtype, with an adapter that is not zero."""
    policy = adapter.attach(copy.deepcopy(model).to(dtype), seed=0).to(dtype)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in policy.parameters():
            if weight.requires_grad:
                weight.add_(0.05 * torch.randn(weight.shape, generator=generator, dtype=dtype))
    return policy


def references(store: TokenStore, dtype: torch.dtype) -> Tensor:
    """Return log-probabilities that leave the loss in its steep part, (responses,)."""
    lengths = torch.from_numpy(store.response_lengths.copy()).to(dtype)
    return -5.5 * lengths - torch.linspace(0, 3, len(lengths), dtype=dtype)


def naive_step(policy: nn.Module, store: TokenStore, pairs: Sequence[int]) -> Step:
    """Every response of every pair alone, unpadded, by the softmax over the whole vocabulary; nothing of this project."""
    policy.zero_grad()
    dtype = next(policy.parameters()).dtype
    fixed, total = references(store, dtype), 0.0

    def logp(response: int) -> Tensor:
        ids = torch.tensor([[*store.prompt_of(response).tolist(), *store.response(response).tolist()]])
        start = len(store.prompt_of(response))
        each = policy(input_ids=ids, use_cache=False).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])
        whole: Tensor = each[start - 1 :].sum() - fixed[response]
        return whole

    for pair in pairs:
        chosen, rejected = store.pairs[pair].tolist()
        loss = -F.logsigmoid(BETA * (logp(chosen) - logp(rejected))) / len(pairs)
        loss.backward()
        total += loss.item()
    return Step(total, gradients_of(policy))


def layout_step(policy: nn.Module, layout: Layout, store: TokenStore, pairs: Sequence[int]) -> Step:
    """The same step through a layout, scoring and the loss."""
    policy.zero_grad()
    assert fitted(policy, layout, store).layout == layout
    batch = layout.items(store, pairs)
    scored = score(policy, batch.rows)
    assert torch.isfinite(scored.per_token).all()
    fixed = references(store, scored.per_token.dtype)[batch.rows.responses]
    counts = scored.counts
    reference = ResponseLogps((fixed / counts).repeat_interleave(counts), counts)
    loss = DPOLoss(beta=BETA)(PairLogps(scored, batch.pairs), PairLogps(reference, batch.pairs)).mean()
    loss.backward()
    return Step(loss.item(), gradients_of(policy))


def gradients_of(policy: nn.Module) -> dict[str, Tensor]:
    """Return a copy of every gradient tensor; all of them there and none of them zero."""
    gradients = {name: weight.grad.clone() for name, weight in policy.named_parameters() if weight.grad is not None}
    assert len(gradients) == sum(weight.requires_grad for weight in policy.parameters())
    assert all(float(gradient.norm()) > 0 for gradient in gradients.values())
    return gradients
