"""Items that are not pairs: a module for labelled answers inherits the two passes of a loss that sees the whole step."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from dpo_lab.layouts.base import ItemBatch
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.reference.frozen import FrozenScorer
from dpo_lab.scoring.fitting import fitted
from dpo_lab.scoring.logps import ResponseLogps
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import StoreBuilder, TokenStore
from dpo_lab.training.batches import item_batches
from dpo_lab.training.guards import records_of
from dpo_lab.training.module import StepModule
from dpo_lab.training.optim import AdamW

Labelled = tuple[ResponseLogps, Tensor, Tensor]
"""The policy's log-probabilities, the reference's sums and whether each answer is desirable."""


class LabelModule(StepModule):
    """Labelled answers under a toy of KTO: rewards are compared with the mean reward of the whole step."""

    item = "label"
    couples_items = True
    reference: FrozenScorer

    def logps(self, micro_batch: ItemBatch) -> Labelled:
        rows, positions = micro_batch.rows, micro_batch.positions
        assert positions.tolist() == list(range(len(micro_batch)))  # here no answer is labelled twice in a micro-batch
        return score(self.policy, rows), self.reference(rows).sums, micro_batch.labels.desirable

    def rewards(self, parts: Sequence[Labelled]) -> tuple[Tensor, Tensor]:
        return torch.cat([policy.sums - fixed for policy, fixed, _ in parts]), torch.cat([label for *_, label in parts])

    def step_losses(self, parts: Sequence[Labelled]) -> Tensor:
        rewards, desirable = self.rewards(parts)
        losses = torch.sigmoid((rewards.mean() - rewards) * (2 * desirable - 1))  # the gradient goes through the mean as well
        self.note({"loss": losses, "rewards/desirable": rewards * desirable})
        return losses

    def item_figures(self, micro_batch: ItemBatch) -> dict[str, Tensor]:
        rewards, _ = self.rewards([self.logps(micro_batch)])
        return {"rewards": rewards}


@pytest.fixture
def labels() -> TokenStore:
    """Eight labelled answers to four prompts."""
    generator = torch.Generator().manual_seed(0)
    builder = StoreBuilder()
    for number in range(4):
        prompt = torch.randint(5, 60, (2 + number,), generator=generator).tolist()
        for desirable in (True, False):
            answer = torch.randint(5, 60, (3 + 2 * desirable + number,), generator=generator).tolist()
            builder.add_item([builder.add_response(prompt, answer)], desirable=desirable)
    return builder.build()


def module_of(monkeypatch: pytest.MonkeyPatch, policy: nn.Module, reference: nn.Module) -> LabelModule:
    module = LabelModule(policy, AdamW(), total_steps=1, seed=0, reference=FrozenScorer(reference))
    monkeypatch.setattr(module, "manual_backward", lambda value: value.backward())  # there is no Trainer here
    monkeypatch.setattr(module, "_trainer", SimpleNamespace(global_step=0, global_rank=0, strategy=None))
    return module


@pytest.mark.parametrize("budget", [16, 40, 10**6])
def test_a_coupled_loss_of_labels_has_the_gradient_of_the_whole_batch_for_any_split(
    monkeypatch: pytest.MonkeyPatch, model: nn.Module, other_model: nn.Module, labels: TokenStore, budget: int
) -> None:
    module = module_of(monkeypatch, model, other_model)
    layout = PrefixLayout()
    assert all(fitted(each, layout, labels).layout == layout for each in (model, other_model))
    batches = item_batches(labels, layout, batch_size=8, token_budget=budget, epochs=1, seed=0)
    step = batches.first_step()
    assert (len(step) > 1) == (budget < 10**6)
    assert sorted(item for batch in step for item in batch.ids.tolist()) == list(range(8))
    module.accumulate(step)
    trained = list(model.parameters())
    ours = [weight.grad.clone() for weight in trained if weight.grad is not None]

    whole = PaddedLayout().items(labels, range(8))
    theirs = torch.autograd.grad(module.step_losses([module.logps(whole)]).mean(), trained)
    assert max(float(gradient.abs().max()) for gradient in theirs) > 1e-3
    for one, other in zip(ours, theirs, strict=True):
        assert float((one - other).norm()) <= 1e-5 * float(other.norm())
    assert module.taken[0] == 8
    assert module.collect().keys() == {"loss", "rewards/desirable"}


def test_a_step_that_fails_is_described_label_by_label(
    monkeypatch: pytest.MonkeyPatch, model: nn.Module, other_model: nn.Module, labels: TokenStore
) -> None:
    module = module_of(monkeypatch, model, other_model)
    batch = PaddedLayout().items(labels, [5, 2])
    records = records_of(module, [batch], lambda items: [{"desirable": float(labels.desirable[item])} for item in items])
    assert [(record["label"], record["desirable"]) for record in records] == [(5, 0.0), (2, 1.0)]
    assert all("rewards" in record for record in records)
