"""When the reference is scored: once per weights and tokens, whatever else a run changes; by what, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from dpo_lab.artifacts import MANIFEST
from dpo_lab.components import ConfigError, RunError
from dpo_lab.data.sources import FilePairs
from dpo_lab.evaluation.preference import PreferenceEvaluation
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.losses.ipo import IPOLoss
from dpo_lab.losses.simpo import SimPOLoss
from dpo_lab.models.adapter import LoRA
from dpo_lab.models.load import save_model
from dpo_lab.models.spec import PretrainedModel
from dpo_lab.reference.adapters import AdapterOffReference, PreviousAdapterReference
from dpo_lab.reference.cached import CachedReference
from dpo_lab.reference.frozen import FrozenReference
from dpo_lab.reference.none import NoReference
from dpo_lab.training.optim import AdamW
from dpo_lab.training.settings import TrainerSettings
from tests.conftest import small_model
from tests.small_stage import given, pairs_file, stage, with_lora


def forwards(root: Path) -> int:
    """Return how many responses the reference scored in all passes kept below a directory; audits count apart."""
    manifests = (root / "reference").glob(f"*/{MANIFEST}")
    return sum(json.loads(path.read_text())["facts"]["forwards"] for path in manifests)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """A model on disk."""
    directory = tmp_path_factory.mktemp("base")
    save_model(small_model(tokenizer), tokenizer, directory, "")
    return directory


def run_of(base: Path, outputs: Path, **fields: Any) -> Any:
    """Return a run on 30 given pairs, 6 held out: 60 responses."""
    outputs.mkdir(exist_ok=True)
    model = PretrainedModel(path=str(base), licence="none", adapter=fields.pop("adapter", LoRA(rank=4)))
    return given(outputs, pairs_file(outputs), **{"model": model, "optim": AdamW(lr=1e-2), **fields})


def test_only_weights_and_tokens_make_the_reference_score_again(base: Path, tmp_path: Path) -> None:
    kept = CachedReference(root=tmp_path / "kept")
    run = run_of(base, tmp_path / "one", reference=kept)
    run.run()
    assert forwards(kept.root) == 60  # type: ignore[arg-type]
    replace(
        run,
        optim=AdamW(lr=1e-3),
        loss=IPOLoss(beta=0.3),
        seed=5,
        model=replace(run.model, adapter=LoRA(rank=2)),
        trainer=TrainerSettings(accelerator="cpu", batch_size=4, token_budget=64),
        layout=PaddedLayout(),
        reference=replace(kept, audit_rows=1),
        outputs=tmp_path / "elsewhere",
    ).run()
    assert forwards(kept.root) == 60  # type: ignore[arg-type]
    other = tmp_path / "other.jsonl"
    other.write_text((tmp_path / "one" / "pairs.jsonl").read_text().replace("answer 7", "answer 8", 1))
    replace(run, data=FilePairs(path=other, max_length=64)).run()
    assert 60 < forwards(kept.root) <= 120  # type: ignore[arg-type]


def test_one_changed_weight_makes_the_reference_score_again(base: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(base, model)
    run = run_of(model, tmp_path / "out")
    run.run()
    weights = load_file(model / "model.safetensors")
    next(iter(weights.values())).flatten()[0] += 1e-3
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    run.run()
    assert forwards(tmp_path / "out") == 120


def test_a_run_scores_its_held_out_pairs_under_the_reference_once(base: Path, tmp_path: Path) -> None:
    run_of(base, tmp_path, reference=CachedReference(), evaluation=PreferenceEvaluation(every=1)).run()
    assert forwards(tmp_path) == 60 == 48 + 12  # of 24 pairs to train on, and of 6 that are measured before, while and after


@pytest.fixture(scope="module")
def wanted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The figures of a run with the cached reference."""
    return run_of(base, tmp_path_factory.mktemp("cached")).run()


@pytest.mark.parametrize("reference", [AdapterOffReference(), PreviousAdapterReference(), FrozenReference()])
def test_references_beside_the_policy_agree_with_the_cached_one_and_score_nothing_ahead(
    base: Path, wanted: Any, tmp_path: Path, reference: Any
) -> None:
    figures = run_of(base, tmp_path / "out", reference=reference).run()
    assert forwards(tmp_path / "out") == 0
    for name in ("eval/loss", "eval/margin", "eval/accuracy", "eval/loss/before"):
        assert figures[name] == pytest.approx(wanted[name], rel=1e-4, abs=1e-5), name
    policy = next(path for path in (tmp_path / "out" / "policy").glob("*") if path.is_dir())
    assert json.loads((policy / MANIFEST).read_text())["facts"]["step_0_gap"] == 0.0


@pytest.mark.slow
def test_the_adapter_of_the_round_before_is_the_reference_of_the_next(tmp_path: Path) -> None:
    two_rounds: dict[str, Any] = {"model": with_lora(), "optim": AdamW(lr=2e-3)}  # small enough that rounding changes no answer
    wanted = stage(tmp_path / "cached", **two_rounds).run()
    figures = stage(tmp_path / "out", **two_rounds, reference=PreviousAdapterReference()).run()
    for name in ("kl/round_1", "kl/round_2"):
        assert figures[name] == pytest.approx(wanted[name], rel=1e-4), name
    for policy in (tmp_path / "out" / "policy").glob(f"*/{MANIFEST}"):
        assert json.loads(policy.read_text())["facts"]["step_0_gap"] == 0.0


def test_a_loss_without_reference_scores_none_unless_asked_by_name(base: Path, tmp_path: Path) -> None:
    run_of(base, tmp_path / "none", loss=SimPOLoss(), reference=NoReference()).run()
    assert forwards(tmp_path / "none") == 0
    run_of(base, tmp_path / "named", loss=SimPOLoss()).run()
    assert forwards(tmp_path / "named") == 60


def test_switching_the_adapter_off_is_refused_where_it_gives_another_model(base: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match="adapter_off is the policy's base, and adapter=none trains every weight; use reference=cached",
    ):
        stage(tmp_path, reference=AdapterOffReference()).run()
    with pytest.raises(ConfigError, match=r"use reference=previous_adapter, or iteration.reference=first"):
        stage(tmp_path, model=with_lora(), reference=AdapterOffReference()).run()
    run_of(base, tmp_path / "one").run()
    policy = next(path for path in (tmp_path / "one" / "policy").glob("*") if path.is_dir())
    with pytest.raises(RunError, match="is a base with an adapter"):
        run_of(policy, tmp_path / "two", reference=AdapterOffReference()).run()


def test_pairs_of_a_prompt_together_train_to_the_same_kind_of_policy(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "four.jsonl"
    answers = [" good good answer", " good answer", " an answer", " bad"]
    rows = [
        {"prompt": f"question {n}?", "chosen": f"{answers[better]} {n}", "rejected": f"{answers[worse]} {n}"}
        for n in range(10)
        for worse in range(4)
        for better in range(worse)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    run = run_of(base, tmp_path / "out", data=FilePairs(path=path, max_length=64, order="by_prompt", held_out=2))
    summary = run.run()
    assert forwards(tmp_path / "out") == 40  # ten prompts, four answers: each response once, not 120
    assert summary["eval/accuracy"] > 0.8
    policy = next(path for path in (tmp_path / "out" / "policy").glob("*") if path.is_dir())
    assert json.loads((policy / MANIFEST).read_text())["facts"]["steps"] == 8  # eight prompts, six pairs each, batches of 8


def test_a_run_says_which_layout_it_uses_instead(base: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(base, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "sliding_window": 4}))
    run_of(model, tmp_path / "out", reference=AdapterOffReference()).run()
    (screen,) = (tmp_path / "out" / "train").glob("*/screen.txt")
    said = screen.read_text()
    assert "layout=prefix does not suit this model (its sliding window of 4 tokens is shorter than the longest row" in said
    assert "| reference" not in said  # no pass over the pairs was made


def test_an_adapter_from_before_has_to_be_the_one_asked_for(base: Path, tmp_path: Path) -> None:
    run_of(base, tmp_path / "one").run()
    policy = next(path for path in (tmp_path / "one" / "policy").glob("*") if path.is_dir())
    for adapter in (LoRA(rank=4, dropout=0.5), LoRA(rank=4, target_modules=("q_proj",))):
        with pytest.raises(ConfigError, match="is asked for, and the model to start from has an adapter with rank=4"):
            run_of(policy, tmp_path / "two", adapter=adapter).run()
