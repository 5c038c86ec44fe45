"""The cached reference: found again by content alone, audited, refused when it has drifted."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.models.load import evaluating
from dpo_lab.reference.cached import FILE, CachedReference, ReferenceDriftError, reference_pass
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import StoreBuilder, TokenStore

LAYOUT, CACHED = PaddedLayout(), CachedReference()


def test_lookup_equals_scoring_online(model: nn.Module, store: TokenStore, tmp_path: Path) -> None:
    scorer, _ = reference_pass(model, store, LAYOUT, CACHED, root=tmp_path, name="r", own_logits=False)
    batch = LAYOUT.pairs(store, [4, 2, 11]).rows
    with evaluating(model):
        online = score(model, batch)
    assert torch.allclose(scorer(batch).per_token, online.per_token, atol=1e-4)


def test_the_same_weights_and_ids_are_found_again_and_scored_nowhere_else(
    model: nn.Module, store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first = reference_pass(model, store, LAYOUT, CACHED, root=tmp_path, name="one", own_logits=False)
    monkeypatch.setattr("dpo_lab.reference.cached.score_store", None)
    _, again = reference_pass(model, store, LAYOUT, CACHED, root=tmp_path, name="one", own_logits=False)
    assert again.path == first.path


def test_one_changed_weight_or_token_is_another_reference(model: nn.Module, store: TokenStore, tmp_path: Path) -> None:
    _, first = reference_pass(model, store, LAYOUT, CACHED, root=tmp_path, name="r", own_logits=False)
    builder = StoreBuilder()
    builder.add_response([5, 6], [7, 1])
    _, other_ids = reference_pass(model, builder.build(), LAYOUT, CACHED, root=tmp_path, name="r", own_logits=False)
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1e-3
    _, other_weights = reference_pass(model, store, LAYOUT, CACHED, root=tmp_path, name="r", own_logits=False)
    assert len({first.id, other_ids.id, other_weights.id}) == 3


def test_drift_is_refused_with_the_directory_to_remove(model: nn.Module, store: TokenStore, tmp_path: Path) -> None:
    _, artifact = reference_pass(model, store, LAYOUT, CACHED, root=tmp_path, name="r", own_logits=False)
    kept = load_file(artifact.path / FILE)["per_token"]
    save_file({"per_token": kept + 0.01}, artifact.path / FILE)
    with pytest.raises(ReferenceDriftError, match=r"reference/r-.*differ by up to .* nats .*Remove this directory"):
        reference_pass(model, store, LAYOUT, CACHED, root=tmp_path, name="r", own_logits=False)
