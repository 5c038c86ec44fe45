"""A loss that couples pairs, with dropout: both passes over a micro-batch drop the same units."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.losses.aot import AOTLoss
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.losses.bco import BCOLoss
from dpo_lab.models.adapter import LoRA
from dpo_lab.reference.frozen import FrozenScorer
from dpo_lab.scoring.logps import joined
from dpo_lab.seeding import derive
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.module import PreferenceModule
from dpo_lab.training.optim import AdamW

SEED = 3


@pytest.mark.parametrize("loss", [AOTLoss(beta=0.5), BCOLoss(beta=0.5)], ids=lambda loss: loss.label)
def test_with_dropout_the_gradient_is_that_of_the_scores_that_the_loss_saw(
    monkeypatch: pytest.MonkeyPatch, model: nn.Module, other_model: nn.Module, store: TokenStore, loss: PreferenceLoss
) -> None:
    policy = LoRA(rank=2, dropout=0.4).attach(model, seed=0)
    trained = [weight for weight in policy.parameters() if weight.requires_grad]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in trained:  # a fresh adapter adds 0 whatever is dropped
            weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    module = PreferenceModule(policy, FrozenScorer(other_model), loss, AdamW(), total_steps=1, seed=SEED)
    monkeypatch.setattr(module, "manual_backward", lambda value: value.backward())  # there is no Trainer here
    monkeypatch.setattr(module, "_trainer", SimpleNamespace(global_step=0, global_rank=0, strategy=None))
    step = [PaddedLayout().items(store, range(start, start + 4)) for start in (0, 4, 8)]
    module.accumulate(step)
    ours = [weight.grad for weight in trained]

    scored = []  # one pass that keeps the graph of the whole step: what the two passes stand for
    for position, batch in enumerate(step):
        torch.manual_seed(derive(SEED, "dropout", 0, position, 0))
        scored.append(module.logps(batch))
    whole, reference = (joined([each[side] for each in scored]) for side in (0, 1))
    theirs = torch.autograd.grad(loss(whole, reference).mean(), trained)
    assert max(float(gradient.abs().max()) for gradient in theirs) > 1e-3
    for one, other in zip(ours, theirs, strict=True):
        assert one is not None
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)
