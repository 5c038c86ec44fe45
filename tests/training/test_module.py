"""Preference training through the module: step 0, accumulation, the reference frozen, what moves and what does not."""

import copy
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn

from dpo_lab.layouts.base import Layout
from dpo_lab.layouts.packed import PackedLayout
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.adapter import Adapter, LoRA, NoAdapter
from dpo_lab.models.load import evaluating
from dpo_lab.models.precision import Precision
from dpo_lab.progress import Part
from dpo_lab.reference.base import ReferenceScorer
from dpo_lab.reference.cached import CachedReference, reference_pass
from dpo_lab.reference.frozen import FrozenScorer
from dpo_lab.scoring.fitting import Fit, fitted
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.batches import item_batches
from dpo_lab.training.fit import fit
from dpo_lab.training.group import Group
from dpo_lab.training.module import PreferenceModule, SFTModule
from dpo_lab.training.optim import AdamW
from dpo_lab.training.settings import TrainerSettings
from dpo_lab.training.steps import Row, StepFigures

LAYOUT = PaddedLayout()
MakeReference = Callable[[nn.Module, TokenStore, Path], ReferenceScorer]


def frozen(model: nn.Module, store: TokenStore, root: Path) -> ReferenceScorer:
    return FrozenScorer(copy.deepcopy(model))


def cached(model: nn.Module, store: TokenStore, root: Path) -> ReferenceScorer:
    return reference_pass(model, store, Fit(LAYOUT, own_logits=False), CachedReference(), root=root, name="r")[0]


def module_of(policy: nn.Module, reference: ReferenceScorer, lr: float = 1e-2, beta: float = 0.5) -> PreferenceModule:
    return PreferenceModule(policy, reference, DPOLoss(beta=beta), AdamW(lr=lr, warmup=0.0), total_steps=4, seed=0)


def test_a_step_of_fine_tuning_counts_responses_tokens_and_the_terms_of_its_mean(model: nn.Module, store: TokenStore) -> None:
    module = SFTModule(model, AdamW(), total_steps=1, seed=0)
    step = [LAYOUT.rows(store, responses) for responses in ([0, 1, 2], [3])]  # the first prompt has 1 token, the second 3
    lengths = [[1, 5, 10], [1]]
    assert [(len(each), each.num_tokens) for each in step] == [(3, 3 * (1 + 10)), (1, 3 + 1)]
    assert [module.num_terms(each) for each in step] == list(map(sum, lengths))
    assert (module._measure(step), module.taken) == (17, (4, 37))


def test_the_first_step_the_last_and_every_nth_are_recorded(model: nn.Module) -> None:
    rows: list[Row] = []
    figures, module = StepFigures(3, rows.append), SFTModule(model, AdamW(), total_steps=7, seed=0)
    for step in range(1, 8):
        trainer: Any = SimpleNamespace(global_step=step, callbacks=[])
        figures.on_train_batch_end(trainer, module)
    assert [row["step"] for row in rows] == [1, 3, 6, 7]


@pytest.mark.parametrize("adapter", [NoAdapter(), LoRA(rank=2, dropout=0.1)])
def test_at_step_0_frozen_margins_are_0_and_the_loss_is_log_2_exactly(
    model: nn.Module, store: TokenStore, tmp_path: Path, adapter: Adapter
) -> None:
    reference = frozen(model, store, tmp_path)
    module = module_of(adapter.attach(model, seed=0), reference)
    batch = LAYOUT.items(store, range(store.num_pairs))
    policy, fixed = module.logps(batch)
    assert torch.equal(policy.margin, fixed.margin)
    assert torch.equal(module.loss(policy, fixed), torch.full((store.num_pairs,), math.log(2)))


def test_at_step_0_cached_margins_are_within_a_thousandth_of_a_nat(model: nn.Module, store: TokenStore, tmp_path: Path) -> None:
    module = module_of(model, cached(model, store, tmp_path))
    policy, fixed = module.logps(LAYOUT.items(store, [7, 1, 4]))
    assert (policy.margin - fixed.margin).abs().max() <= 1e-3


@pytest.mark.parametrize("reference", [frozen, cached])
def test_a_perturbed_policy_has_margins(model: nn.Module, store: TokenStore, tmp_path: Path, reference: MakeReference) -> None:
    module = module_of(model, reference(model, store, tmp_path))
    with torch.no_grad():
        for weight in module.policy.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    policy, fixed = module.logps(LAYOUT.items(store, range(store.num_pairs)))
    assert (policy.margin - fixed.margin).abs().min() > 1e-3


def trained(
    model: nn.Module,
    store: TokenStore,
    tmp_path: Path,
    *,
    token_budget: int = 10**6,
    batch_size: int = 8,
    adapter: Adapter | None = None,
    layout: Layout = LAYOUT,
    precision: Precision = Precision(mode="fp32"),  # noqa: B008
) -> PreferenceModule:
    settings = TrainerSettings(batch_size=batch_size, token_budget=token_budget, epochs=2, accelerator="cpu")
    batches = item_batches(store, layout, batch_size=batch_size, token_budget=token_budget, epochs=2, seed=3)
    reference = frozen(model, store, tmp_path)
    module = module_of((adapter or NoAdapter()).attach(model, seed=0), reference)
    module.total_steps = batches.total_steps
    fit(module, batches, settings, precision, part=Part("test", 4), directory=tmp_path)
    return module


@pytest.mark.parametrize("layout", [PaddedLayout(), PackedLayout(), PrefixLayout()])
@pytest.mark.parametrize("budget", [60, 1])  # one to three pairs in a pass; every pair alone
def test_the_token_budget_changes_no_step_of_training(
    model: nn.Module, store: TokenStore, tmp_path: Path, layout: Layout, budget: int
) -> None:
    start = copy.deepcopy(model.double())
    assert fitted(model, layout, store).layout == layout
    whole, split = (
        trained(copy.deepcopy(model), store, tmp_path, layout=layout, token_budget=each).state_dict() for each in (10**6, budget)
    )
    for name, weight in whole.items():
        assert float((weight - start.get_parameter(name.removeprefix("policy."))).abs().max()) > 1e-3
        assert float((weight - split[name]).norm()) <= 1e-6 * float(weight.norm()), name


def test_prefix_rows_train_under_autocast_as_padded_ones_do(model: nn.Module, store: TokenStore, tmp_path: Path) -> None:
    margins = []
    for layout in (PaddedLayout(), PrefixLayout()):
        policy = copy.deepcopy(model)
        fitted(policy, layout, store)
        module = trained(policy, store, tmp_path, layout=layout, precision=Precision(mode="bf16-mixed"))
        assert {weight.dtype for weight in module.parameters()} == {torch.float32}
        with evaluating(module.policy):
            ours, theirs = module.logps(layout.items(store, range(store.num_pairs)))
        margins.append(ours.margin - theirs.margin)
    assert float(margins[0].abs().mean()) > 0.5
    assert float((margins[0] - margins[1]).abs().mean()) < 0.1 * float(margins[0].abs().mean())


def test_training_raises_the_margin_of_its_pairs_and_leaves_the_reference_alone(
    model: nn.Module, store: TokenStore, tmp_path: Path
) -> None:
    module = trained(model, store, tmp_path)
    assert isinstance(module.reference, FrozenScorer)
    assert not module.reference.model.training
    assert not any(weight.requires_grad for weight in module.reference.parameters())
    assert not any(name.startswith("reference") for name in module.state_dict())
    policy, fixed = module.logps(LAYOUT.items(store, range(store.num_pairs)))
    assert (policy.margin - fixed.margin).mean() > 0.5


def test_with_lora_only_the_adapter_is_trained_and_kept(model: nn.Module, store: TokenStore, tmp_path: Path) -> None:
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    module = trained(model, store, tmp_path, adapter=LoRA(rank=2))
    kept = module.state_dict()
    assert kept
    assert all("lora_" in name for name in kept)
    assert any(weight.abs().max() > 0 for name, weight in kept.items() if "lora_B" in name)
    base = {
        name.replace(".base_layer", "").removeprefix("base_model.model."): weight
        for name, weight in module.policy.named_parameters()
    }
    assert all(torch.equal(base[name], weight) for name, weight in before.items())


def test_a_checkpoint_holds_plain_tensors(model: nn.Module, store: TokenStore, tmp_path: Path) -> None:
    module = trained(model, store, tmp_path)
    torch.save(module.state_dict(), tmp_path / "state.pt")
    assert set(torch.load(tmp_path / "state.pt", weights_only=True)) == {f"policy.{name}" for name, _ in model.named_parameters()}


def test_the_policy_is_in_train_mode(model: nn.Module, store: TokenStore, tmp_path: Path) -> None:
    # from_pretrained returns eval mode and Lightning keeps it: adapters' dropout would never act
    assert isinstance(module_of(model.eval(), frozen(model, store, tmp_path)), L.LightningModule)
    assert model.training


class Twins(Group):
    """A group whose other process has the same gradients."""

    def add_gradients(self, weights: Sequence[nn.Parameter]) -> None:
        for weight in weights:
            assert weight.grad is not None
            weight.grad.mul_(2)


def test_a_step_is_taken_with_the_gradients_of_every_process(model: nn.Module, store: TokenStore, tmp_path: Path) -> None:
    norms = []
    for number, group in enumerate((Group(), Twins())):
        module = module_of(copy.deepcopy(model), frozen(model, store, tmp_path))
        batches = item_batches(store, LAYOUT, batch_size=12, token_budget=10**6, epochs=1, seed=0)
        rows: list[Row] = []
        settings, plain = TrainerSettings(accelerator="cpu"), Precision(mode="fp32")
        directory = tmp_path / str(number)
        fit(module, batches, settings, plain, part=Part("test", 1), directory=directory, record=rows.append, group=group)
        norms.append(rows[0]["grad_norm"])
    assert norms[1] == pytest.approx(2 * norms[0], rel=1e-6)
