"""The cached reference: found again by content alone, audited, refused when it has drifted."""

from pathlib import Path

import pytest
import torch
from torch import nn

from dpo_lab.layouts.base import ResponseBatch
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.models.adapter import LoRA
from dpo_lab.models.load import evaluating
from dpo_lab.reference.audit import ReferenceDriftError
from dpo_lab.reference.cached import FILE, CachedReference, reference_pass
from dpo_lab.reference.parts import Parts
from dpo_lab.scoring.fitting import Fit
from dpo_lab.scoring.logps import ResponseLogps
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import StoreBuilder, TokenStore

LAYOUT, CACHED = PaddedLayout(), CachedReference()
FIT = Fit(LAYOUT, own_logits=False)


def test_lookup_equals_scoring_online(model: nn.Module, store: TokenStore, tmp_path: Path) -> None:
    scorer, _ = reference_pass(model, store, FIT, CACHED, root=tmp_path, name="r")
    batch = LAYOUT.items(store, [4, 2, 11]).rows
    with evaluating(model):
        online = score(model, batch)
    assert torch.allclose(scorer(batch).per_token, online.per_token, atol=1e-4)


def test_the_same_weights_and_ids_are_found_again_and_scored_nowhere_else(
    model: nn.Module, store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first = reference_pass(model, store, FIT, CACHED, root=tmp_path, name="one")
    monkeypatch.setattr("dpo_lab.reference.cached._score", None)
    _, again = reference_pass(model, store, FIT, CACHED, root=tmp_path, name="one")
    assert again.path == first.path


def test_one_changed_weight_or_token_is_another_reference(model: nn.Module, store: TokenStore, tmp_path: Path) -> None:
    _, first = reference_pass(model, store, FIT, CACHED, root=tmp_path, name="r")
    builder = StoreBuilder()
    builder.add_response([5, 6], [7, 1])
    _, other_ids = reference_pass(model, builder.build(), FIT, CACHED, root=tmp_path, name="r")
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1e-3
    _, other_weights = reference_pass(model, store, FIT, CACHED, root=tmp_path, name="r")
    assert len({first.id, other_ids.id, other_weights.id}) == 3


def drift(monkeypatch: pytest.MonkeyPatch, by: float, response: int | None = None) -> None:
    """Let scoring give other numbers from now on, as another machine or library may: every token, or a response's last one."""

    def drifted(policy: nn.Module, batch: ResponseBatch, **options: bool) -> ResponseLogps:
        per_token = score(policy, batch, **options).per_token.clone()
        if response is None:
            return ResponseLogps(per_token + by, batch.counts)
        (place,) = (batch.responses == response).nonzero().flatten()
        per_token[batch.counts.cumsum(0)[place] - 1] += by
        return ResponseLogps(per_token, batch.counts)

    monkeypatch.setattr("dpo_lab.reference.audit.score", drifted)


def test_drift_is_refused_with_the_directory_to_remove(
    model: nn.Module, store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference_pass(model, store, FIT, CACHED, root=tmp_path, name="r")
    drift(monkeypatch, 0.01)
    with pytest.raises(ReferenceDriftError, match=r"reference/r-.*scored again differs by .* nats .*Remove this directory"):
        reference_pass(model, store, FIT, CACHED, root=tmp_path, name="r")


@pytest.mark.parametrize(("bf16", "moved", "refused"), [(False, 0.03, True), (True, 0.03, False), (True, 0.2, True)])
def test_the_audit_allows_what_another_batch_does_to_the_number_format(
    model: nn.Module, store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool, moved: float, refused: bool
) -> None:
    """In bf16 another batch shape moves a response by hundredths of a nat: 1e-3 would refuse every second run."""
    all_rows = CachedReference(audit_rows=store.num_responses)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        reference_pass(model, store, FIT, all_rows, root=tmp_path, name="r")
        drift(monkeypatch, moved, response=store.num_responses - 1)
        if refused:
            with pytest.raises(ReferenceDriftError):
                reference_pass(model, store, FIT, all_rows, root=tmp_path, name="r")
        else:
            reference_pass(model, store, FIT, all_rows, root=tmp_path, name="r")
            with pytest.raises(ReferenceDriftError, match=r"allowed 0.001, reference.tolerance"):
                reference_pass(model, store, FIT, CachedReference(audit_rows=12, tolerance=1e-3), root=tmp_path, name="r")


def test_a_pass_that_was_interrupted_goes_on_and_says_what_is_missing(
    model: nn.Module, store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dpo_lab.scoring.passes.TOKENS_PER_BATCH", 50)
    whole, _ = reference_pass(model, store, FIT, CACHED, root=tmp_path / "whole", name="r")
    scored: list[int] = []

    def dying(policy: nn.Module, batch: ResponseBatch, **options: bool) -> ResponseLogps:
        if len(scored) == 4:
            raise KeyboardInterrupt
        scored.append(len(batch.counts))
        return score(policy, batch, **options)

    monkeypatch.setattr("dpo_lab.reference.cached.score", dying)
    with pytest.raises(KeyboardInterrupt):
        reference_pass(model, store, FIT, CACHED, root=tmp_path / "cut", name="r")
    done = sum(scored)
    assert 0 < done < 12
    monkeypatch.setattr("dpo_lab.reference.cached.score", score)
    again, artifact = reference_pass(model, store, FIT, CACHED, root=tmp_path / "cut", name="r")
    assert artifact.facts == {"responses": 12, "forwards": 12 - done}  # nothing is scored twice
    said = " ".join(capsys.readouterr().out.split())
    assert f"resuming reference: {done} of 12 responses are scored; missing" in said
    assert torch.equal(again.per_token, whole.per_token)
    assert sorted(path.name for path in artifact.path.iterdir()) == [FILE, "manifest.json"]


def test_a_part_that_was_cut_short_is_scored_again(model: nn.Module, store: TokenStore, tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts", store)
    batch = LAYOUT.rows(store, [2, 0])
    parts.add(batch.responses, torch.arange(len(batch.targets)).float())
    (file,) = (tmp_path / "parts").iterdir()
    assert Parts(tmp_path / "parts", store).known.tolist() == [True, False, True, *[False] * 9]
    file.write_bytes(file.read_bytes()[:-3])
    again = Parts(tmp_path / "parts", store)
    assert not again.known.any()
    assert not list((tmp_path / "parts").iterdir())


def test_another_number_format_or_way_to_logits_is_another_reference(model: nn.Module, store: TokenStore, tmp_path: Path) -> None:
    def made(fit: Fit) -> str:
        return reference_pass(model, store, fit, CACHED, root=tmp_path, name="r")[1].id

    plain, own = made(FIT), made(Fit(LAYOUT, own_logits=True))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = made(FIT)
    assert len({plain, own, half}) == 3


def test_the_reference_is_scored_without_dropout(model: nn.Module, store: TokenStore, tmp_path: Path) -> None:
    adapted = LoRA(rank=2, dropout=0.5).attach(model, seed=0).train()
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.constant_(weight, 0.05)
    scorer, _ = reference_pass(adapted, store, FIT, CACHED, root=tmp_path, name="r")
    batch = LAYOUT.rows(store, [0, 4, 8])
    with evaluating(adapted):
        wanted = score(adapted, batch).per_token
    assert torch.allclose(scorer(batch).per_token, wanted, atol=1e-4)
    assert adapted.training
