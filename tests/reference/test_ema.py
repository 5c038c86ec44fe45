"""A reference that follows the policy: its weights in closed form, beside all weights and beside an adapter."""

import copy
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from dpo_lab.components import RunError
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.adapter import Adapter, LoRA, NoAdapter, save_adapter
from dpo_lab.models.precision import Precision
from dpo_lab.reference.base import ReferenceModel, ReferenceScorer
from dpo_lab.reference.ema import EMAReference
from dpo_lab.scoring.fitting import Fit
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.module import PreferenceModule
from dpo_lab.training.optim import AdamW
from dpo_lab.training.step_0 import check_step_0

LAYOUT = PaddedLayout()
ADAPTERS: list[Adapter] = [
    NoAdapter(),
    LoRA(rank=2),
    LoRA(rank=2, rslora=True),
    LoRA(rank=2, dora=True, modules_to_save=("lm_head", "norm")),
]
every_adapter = pytest.mark.parametrize("adapter", ADAPTERS, ids=["full", "lora", "rslora", "dora with modules"])


def beginning(
    model: nn.Module, adapter: Adapter, store: TokenStore, path: Path, **fields: Any
) -> tuple[nn.Module, ReferenceScorer]:
    """Return a policy and the reference that follows it, as a round makes them."""
    reference = EMAReference(**fields)
    scorer, seconds = reference.scorer(ReferenceModel(path, lambda: model), store, Fit(LAYOUT, False), root=path, name="r")
    assert seconds == 0
    policy = adapter.attach(model, seed=0)
    scorer.follow(policy)
    return policy, scorer


def trained_of(policy: nn.Module) -> dict[str, Tensor]:
    return {name: weight for name, weight in policy.named_parameters() if weight.requires_grad}


@torch.no_grad()
@every_adapter
@pytest.mark.parametrize(
    ("alpha", "every", "expected"),
    [
        # the policy stands at w + n d after step n, the reference at w + r d: r <- alpha n + (1 - alpha) r
        (0.5, 1, [0.5, 1.25, 2.125, 3.0625]),  # 1/2 of 1; (2 + 1/2)/2; (3 + 5/4)/2; (4 + 17/8)/2
        (0.25, 2, [0.0, 0.5, 0.5, 1.375]),  # nothing; 1/4 of 2; as it was; 1/4 of 4 and 3/4 of 1/2
        (1.0, 3, [0.0, 0.0, 3.0, 3.0]),  # the paper's hard update
    ],
)
def test_after_k_updates_the_reference_is_the_closed_form(
    model: nn.Module, store: TokenStore, tmp_path: Path, adapter: Adapter, alpha: float, every: int, expected: list[float]
) -> None:
    policy, scorer = beginning(model.double(), adapter, store, tmp_path, alpha=alpha, every=every)
    policy.double()
    scorer.double()
    start = {name: weight.clone() for name, weight in trained_of(policy).items()}
    assert scorer.state(policy).keys() == start.keys() != set()
    for step, moved in enumerate(expected, start=1):
        for weight in trained_of(policy).values():
            weight.add_(0.125)
        scorer.after_step(policy, step)
        for name, kept in scorer.state(policy).items():
            assert torch.allclose(kept, start[name] + moved * 0.125, rtol=0, atol=1e-12), name


@torch.no_grad()
@every_adapter
def test_it_scores_as_a_policy_with_the_averaged_weights_would(
    model: nn.Module, store: TokenStore, tmp_path: Path, adapter: Adapter
) -> None:
    batch = LAYOUT.rows(store, [0, 4, 8])
    policy, scorer = beginning(model, adapter, store, tmp_path, alpha=0.25, every=1)
    before = score(policy, batch).per_token
    assert torch.equal(scorer(batch).per_token, before)
    start = copy.deepcopy({name: weight.data for name, weight in trained_of(policy).items()})
    generator = torch.Generator().manual_seed(0)
    for weight in trained_of(policy).values():
        weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    scorer.after_step(policy, 1)
    moved = scorer(batch).per_token
    for name, weight in trained_of(policy).items():
        weight.copy_(start[name].lerp(weight, 0.25))
    assert torch.equal(score(policy, batch).per_token, moved)
    assert float((moved - before).abs().max()) > 1e-3


class Weights(L.Callback):
    """Keeps the policy's and the reference's weights after every step."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any) -> None:
        policy = pl_module.policy
        self.seen.append(copy.deepcopy(({n: w.data for n, w in trained_of(policy).items()}, pl_module.reference.state(policy))))


@pytest.mark.parametrize("adapter", [NoAdapter(), LoRA(rank=2)], ids=["full", "lora"])
def test_in_training_it_follows_the_weights_after_the_step_before_any_callback(
    store: TokenStore, tmp_path: Path, model: nn.Module, adapter: Adapter
) -> None:
    policy, scorer = beginning(model, adapter, store, tmp_path, alpha=0.25, every=2)
    expected = {name: weight.detach().clone() for name, weight in trained_of(policy).items()}
    module = PreferenceModule(policy, scorer, DPOLoss(), AdamW(lr=1e-2), total_steps=5, seed=0)
    weights = Weights()
    trainer = L.Trainer(
        accelerator="cpu", max_steps=5, logger=False, callbacks=[weights], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=str(tmp_path),
    )  # fmt: skip
    steps = [[LAYOUT.items(store, [number])] for number in range(5)]
    trainer.fit(module, torch.utils.data.DataLoader(steps, batch_size=None))  # type: ignore[arg-type]
    assert len(weights.seen) == 5
    for step, (now, kept) in enumerate(weights.seen, start=1):
        if step % 2 == 0:
            expected = {name: weight.lerp(now[name], 0.25) for name, weight in expected.items()}
        assert all(torch.equal(kept[name], weight) for name, weight in expected.items()), step
    assert any(not torch.equal(weight, weights.seen[0][1][name]) for name, weight in expected.items())


@every_adapter
def test_at_step_0_it_is_the_policy_exactly(model: nn.Module, store: TokenStore, tmp_path: Path, adapter: Adapter) -> None:
    policy, scorer = beginning(model, adapter, store, tmp_path)
    module = PreferenceModule(policy, scorer, DPOLoss(), AdamW(), total_steps=1, seed=0)
    step = [LAYOUT.items(store, [0, 1])]
    for precision in (Precision(mode="fp32"), Precision(mode="bf16-mixed")):
        assert check_step_0(module, step, EMAReference(), precision, torch.device("cpu")) == 0.0


def test_beside_an_adapter_it_is_as_large_as_the_adapter_and_neither_trained_nor_saved(
    model: nn.Module, store: TokenStore, tmp_path: Path
) -> None:
    policy, scorer = beginning(model, LoRA(rank=2), store, tmp_path)
    assert list(scorer.parameters()) == []
    weights = dict(policy.named_parameters())
    kept = {name for name in weights if "reference" in name}
    assert sum(weights[name].numel() for name in kept) == sum(weight.numel() for weight in trained_of(policy).values())
    assert not any(weights[name].requires_grad for name in kept)
    assert save_adapter(policy, tmp_path / "saved", "base")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_a_round_that_starts_from_an_adapter_begins_with_it_as_reference(
    model: nn.Module, store: TokenStore, tmp_path: Path
) -> None:
    adapter, batch = LoRA(rank=2), LAYOUT.rows(store, [0, 4, 8])
    before = adapter.attach(model, seed=0)
    with torch.no_grad():
        for weight in trained_of(before).values():
            weight.add_(0.1)
    assert save_adapter(before, tmp_path, "base")
    policy, scorer = beginning(before, adapter, store, tmp_path)
    assert torch.equal(scorer(batch).per_token, score(policy, batch).per_token)


def test_a_round_that_starts_from_an_adapter_may_have_the_base_as_reference(
    model: nn.Module, store: TokenStore, tmp_path: Path
) -> None:
    adapter, batch = LoRA(rank=2, dora=True, modules_to_save=("lm_head",)), LAYOUT.rows(store, [0, 4, 8])
    base = score(model, batch).per_token
    before = adapter.attach(model, seed=0)
    with torch.no_grad():
        for weight in trained_of(before).values():
            weight.add_(0.1)
    policy, scorer = beginning(before, adapter, store, tmp_path)
    assert torch.equal(scorer(batch).per_token, base)
    assert not torch.equal(score(policy, batch).per_token, base)


def test_a_training_that_ends_before_the_first_update_is_refused() -> None:
    with pytest.raises(RunError, match=r"reference.every=512: this training has 38 optimizer steps.* Use reference.every=4, or"):
        EMAReference().refuse_steps(38)
    with pytest.raises(RunError):
        EMAReference(every=38).refuse_steps(38)
    EMAReference(every=37).refuse_steps(38)
