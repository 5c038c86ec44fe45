"""The stage `train` with adapters of every kind, continued from one, and against a reference that moves."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from dpo_lab.artifacts import MANIFEST
from dpo_lab.components import ConfigError, RunError
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.models.adapted import REFERENCE, AdapterSwitch
from dpo_lab.models.adapter import Adapter, LoRA, NoAdapter
from dpo_lab.models.load import evaluating, load_model, save_model
from dpo_lab.models.precision import Precision
from dpo_lab.models.quant import FourBit, NoQuant, Quant
from dpo_lab.models.spec import PretrainedModel
from dpo_lab.reference.adapters import AdapterOffReference, PreviousAdapterReference
from dpo_lab.reference.base import Reference
from dpo_lab.reference.cached import CachedReference
from dpo_lab.reference.ema import EMAReference
from dpo_lab.reference.frozen import FrozenReference
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.optim import AdamW
from tests.conftest import small_model
from tests.small_stage import given, pairs_file, stage, with_lora

KINDS: dict[str, LoRA] = {
    "lora": LoRA(rank=4),
    "rslora": LoRA(rank=4, rslora=True),
    "dora": LoRA(rank=4, dora=True),
    "dora with embeddings": LoRA(rank=4, dora=True, modules_to_save=("embed_tokens", "norm")),
}


def with_references(*references: Reference) -> pytest.MarkDecorator:
    """Run a test with every kind and every reference; fast tests have each of them once at least, the slow ones the others."""
    combined = [
        pytest.param(kind, reference, id=f"{name}-{type(reference).__name__}", marks=() if fast else pytest.mark.slow)
        for number, (name, kind) in enumerate(KINDS.items())
        for reference, fast in zip(references, (number % 3 == place for place in range(3)), strict=True)
    ]
    return pytest.mark.parametrize(("kind", "reference"), combined)


LN_2 = float(torch.tensor(2.0).log())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """A model on disk; its embeddings are tied."""
    directory = tmp_path_factory.mktemp("base")
    save_model(small_model(tokenizer), tokenizer, directory, "")
    return directory


def run_of(path: Path, outputs: Path, adapter: Adapter, reference: Any, **fields: Any) -> Any:
    outputs.mkdir(exist_ok=True)
    model = PretrainedModel(path=str(path), licence="none", adapter=adapter)
    return given(outputs, pairs_file(outputs), model=model, reference=reference, **{"optim": AdamW(lr=1e-2), **fields})


def policy_of(outputs: Path) -> Path:
    (policy,) = (path for path in (outputs / "policy").glob("*") if path.is_dir())
    return policy


def facts_of(outputs: Path) -> Any:
    return json.loads((policy_of(outputs) / MANIFEST).read_text())["facts"]


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[LoRA], Path]:
    """What trains an adapter of a kind on the model, once for all tests, and returns its directory."""

    @cache
    def policy(kind: LoRA) -> Path:
        outputs = tmp_path_factory.mktemp("trained")
        run_of(base, outputs, kind, AdapterOffReference()).run()
        return policy_of(outputs)

    return policy


def rows_of(outputs: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (policy_of(outputs) / "metrics.jsonl").read_text().splitlines()]


def bytes_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file()}


@with_references(AdapterOffReference(), FrozenReference(), CachedReference())
def test_training_begins_at_ln_2_and_is_read_back_by_plain_peft(
    base: Path, tmp_path: Path, kind: LoRA, reference: Any, store: TokenStore
) -> None:
    from peft import AutoPeftModelForCausalLM

    before = bytes_of(base)
    summary = run_of(base, tmp_path, kind, reference).run()
    assert summary["eval/loss"] < 0.9 * summary["eval/loss/before"]
    facts = facts_of(tmp_path)
    assert facts["step_0_gap"] <= (0.0 if reference.exact else 1e-3)
    assert facts["loss/first"] == pytest.approx(LN_2, abs=0 if reference.exact else 1e-4)
    assert bytes_of(base) == before
    ours, ids = load_model(str(policy_of(tmp_path))).model, torch.arange(5, 15)[None]
    plain = AutoPeftModelForCausalLM.from_pretrained(str(policy_of(tmp_path)))
    with torch.no_grad(), evaluating(ours):
        assert float((plain(ids).logits - ours(ids).logits).abs().max()) < 1e-4


@with_references(PreviousAdapterReference(), CachedReference(), EMAReference(every=1))
def test_an_adapter_is_trained_on_against_its_frozen_copy(
    base: Path,
    trained: Callable[[LoRA], Path],
    tmp_path: Path,
    kind: LoRA,
    reference: Any,
    store: TokenStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = trained(kind)
    before = {path: bytes_of(path) for path in (base, first)}
    kept: list[nn.Module] = []

    def kept_and_saved(policy: nn.Module, *others: Any) -> None:
        kept.append(policy)
        save_model(policy, *others)

    monkeypatch.setattr("dpo_lab.pipeline.policy.save_model", kept_and_saved)
    run_of(first, tmp_path / "two", kind, reference).run()
    facts, second = facts_of(tmp_path / "two"), policy_of(tmp_path / "two")
    assert facts["step_0_gap"] <= (0.0 if reference.exact else 1e-3)
    assert facts["loss/first"] == pytest.approx(LN_2, abs=0 if reference.exact else 1e-4)
    assert {path: bytes_of(path) for path in (base, first)} == before
    weights, others = (load_file(path / "adapter_model.safetensors") for path in (first, second))
    assert weights.keys() == others.keys()
    assert not any(torch.equal(weight, others[name]) for name, weight in weights.items())
    assert json.loads((second / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    if isinstance(reference, PreviousAdapterReference):
        (policy,), batch = kept, PaddedLayout().rows(store, [0, 4, 8])
        model = load_model(str(first)).model
        with evaluating(policy), evaluating(model), AdapterSwitch(policy, REFERENCE)():
            assert torch.equal(score(policy, batch).per_token, score(model, batch).per_token)


@pytest.mark.parametrize(
    ("quant", "reference"),
    [
        pytest.param(NoQuant(), EMAReference(every=1), id="bf16-EMAReference"),
        pytest.param(FourBit(), AdapterOffReference(), id="4bit-AdapterOffReference"),
        pytest.param(NoQuant(), AdapterOffReference(), id="bf16-AdapterOffReference", marks=pytest.mark.slow),
        pytest.param(NoQuant(), FrozenReference(), id="bf16-FrozenReference", marks=pytest.mark.slow),
        pytest.param(FourBit(), EMAReference(every=1), id="4bit-EMAReference", marks=pytest.mark.slow),
        pytest.param(FourBit(), FrozenReference(), id="4bit-FrozenReference", marks=pytest.mark.slow),
    ],
)
def test_on_a_base_in_half_precision_the_gap_is_0_too(base: Path, tmp_path: Path, quant: Quant, reference: Any) -> None:
    run = run_of(base, tmp_path, KINDS["dora with embeddings"], reference, precision=Precision(mode="bf16-mixed"))
    assert replace(run, model=replace(run.model, quant=quant)).run()["eval/loss"] < 0.69
    assert facts_of(tmp_path)["step_0_gap"] == 0.0
    assert facts_of(tmp_path)["loss/first"] == pytest.approx(LN_2, abs=1e-6)


def test_an_adapter_of_another_kind_is_refused_with_what_to_say(trained: Callable[[LoRA], Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Use adapter.rank=4 adapter.dora=true."):
        run_of(trained(KINDS["dora"]), tmp_path / "two", LoRA(), CachedReference()).run()


def test_a_reference_that_copies_the_policy_after_each_step_leaves_every_loss_at_ln_2(base: Path, tmp_path: Path) -> None:
    run_of(base, tmp_path / "lora", LoRA(rank=4), EMAReference(alpha=1, every=1)).run()
    run_of(base, tmp_path / "full", NoAdapter(), EMAReference(alpha=1, every=1)).run()
    for name in ("lora", "full"):
        losses = [row["loss"] for row in rows_of(tmp_path / name)]
        assert len(losses) > 1
        assert all(math.isclose(loss, LN_2, rel_tol=1e-7) for loss in losses), name


@pytest.mark.parametrize("adapter", [LoRA(rank=4), pytest.param(NoAdapter(), marks=pytest.mark.slow)], ids=["lora", "full"])
def test_until_the_first_update_it_is_the_frozen_reference(base: Path, tmp_path: Path, adapter: Adapter) -> None:
    run_of(base, tmp_path / "moving", adapter, EMAReference(alpha=0.5, every=2)).run()
    run_of(base, tmp_path / "frozen", adapter, FrozenReference()).run()
    moving, frozen = ([row["loss"] for row in rows_of(tmp_path / name)] for name in ("moving", "frozen"))
    assert moving[:2] == frozen[:2]
    assert moving[2] > frozen[2]  # it has come half the way: the margin that is left is smaller


@pytest.mark.slow
def test_rounds_each_begin_with_a_fresh_reference(tmp_path: Path) -> None:
    stage(tmp_path, model=with_lora(), optim=AdamW(lr=1e-2), reference=EMAReference(every=1)).run()
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "policy").glob(f"*/{MANIFEST}")]
    assert [manifest["facts"]["step_0_gap"] for manifest in manifests] == [0.0, 0.0]


def test_a_reference_that_would_never_move_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"reference.every=512: this training has 3 optimizer steps"):
        run_of(base, tmp_path, LoRA(rank=4), EMAReference()).run()
