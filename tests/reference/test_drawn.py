"""Log-probabilities that were drawn with the responses: taken where the audit accepts them, and then for nothing that was cut."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.reference.audit import furthest, not_as_drawn, reason_against_drawn
from dpo_lab.reference.cached import CachedReference, reference_pass
from dpo_lab.scoring.fitting import Fit
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import StoreBuilder, TokenStore

FIT = Fit(PaddedLayout(), own_logits=False)
ALL = CachedReference(audit_rows=12)


@pytest.fixture
def scored(model: nn.Module, store: TokenStore, tmp_path: Path) -> torch.Tensor:
    """What a pass says of each token."""
    return reference_pass(model, store, FIT, ALL, root=tmp_path / "scored", name="r")[0].per_token


def drawn_store(store: TokenStore, logps: torch.Tensor, cut: tuple[int, ...] = ()) -> TokenStore:
    """Return the store with log-probabilities of every response but those that were cut."""
    values = logps.numpy().copy()
    for response in cut:
        values[store.response_ends[response] - store.response_lengths[response] : store.response_ends[response]] = np.nan
    return replace(store, drawn_logps=values)


def test_only_responses_that_were_cut_are_scored(
    model: nn.Module, store: TokenStore, scored: torch.Tensor, tmp_path: Path
) -> None:
    drawn = drawn_store(store, scored, cut=(0, 7))
    scorer, artifact = reference_pass(model, drawn, FIT, ALL, root=tmp_path, name="r", drew=True)
    assert artifact.facts == {"responses": 12, "forwards": 2, "drawn": 10}
    assert torch.allclose(scorer.per_token, scored, atol=1e-5)
    assert (scorer.as_drawn, scorer.note) == (True, "")
    again, same = reference_pass(model, drawn, FIT, ALL, root=tmp_path, name="r", drew=True)
    assert (same.id, same.made_now) == (artifact.id, False)
    assert torch.equal(again.per_token, scorer.per_token)
    _, another = reference_pass(model, drawn_store(store, scored + 1e-6), FIT, ALL, root=tmp_path, name="r", drew=True)
    assert another.id != artifact.id


@pytest.mark.parametrize(
    ("moved", "bf16", "cached", "reason"),
    [
        (0.01, False, ALL, "one of 12 responses scored again differs by 0.01 nats, allowed 0.001: reference.tolerance"),
        (0.01, False, replace(ALL, tolerance=0.02), ""),
        (0.0, False, CachedReference(audit_rows=0), "reference.audit_rows=0 would not check them"),
        (0.0, True, ALL, "they were drawn in float32, and the reference is computed in bfloat16"),
    ],
)
def test_what_the_audit_does_not_accept_is_scored_as_if_nothing_had_been_drawn(
    model: nn.Module,
    store: TokenStore,
    scored: torch.Tensor,
    tmp_path: Path,
    moved: float,
    bf16: bool,
    cached: CachedReference,
    reason: str,
) -> None:
    scored[store.response_ends[7] - 1] += moved
    drawn = drawn_store(store, scored)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        scorer, artifact = reference_pass(model, drawn, FIT, cached, root=tmp_path, name="r", drew=True)
        plain, _ = reference_pass(model, store, FIT, cached, root=tmp_path / "plain", name="r")
    assert scorer.as_drawn == (not reason)
    assert scorer.note == (not_as_drawn(reason) if reason else "")
    assert artifact.facts["forwards"] == (12 if reason else 0)
    assert torch.equal(scorer.per_token, plain.per_token if reason else scored)


def test_without_a_model_that_drew_them_nothing_drawn_is_looked_at(
    model: nn.Module, store: TokenStore, scored: torch.Tensor, tmp_path: Path
) -> None:
    scorer, artifact = reference_pass(model, drawn_store(store, scored), FIT, ALL, root=tmp_path, name="r")
    assert artifact.facts == {"responses": 12, "forwards": 12}
    assert not scorer.as_drawn


def test_the_rows_of_the_audit_follow_from_the_tokens_so_that_its_answer_is_the_same_each_time(
    model: nn.Module, store: TokenStore, scored: torch.Tensor
) -> None:
    scored[: store.response_ends[5]] += 1.0  # half of the responses
    drawn = drawn_store(store, scored)
    assert len({reason_against_drawn(model, drawn, FIT, rows=1, tolerance=None) for _ in range(12)}) == 1


def test_the_store_keeps_what_was_drawn_outside_its_fingerprint(tmp_path: Path) -> None:
    def built(logps: list[float]) -> TokenStore:
        builder = StoreBuilder()
        builder.add_item([builder.add_response([5], [6, 1]), builder.add_response([5], [7], logps)])
        builder.add_response([5], [7], [-9.0] if logps else [])
        return builder.build()

    with_logps, without = built([-0.5]), built([])
    assert with_logps.fingerprint() == without.fingerprint()
    with_logps.save(tmp_path)
    kept = TokenStore.open(tmp_path).drawn_logps
    assert kept is not None
    assert np.array_equal(
        kept, np.array([np.nan, np.nan, -0.5], dtype=np.float32), equal_nan=True
    )  # of equal responses the first one's
    assert with_logps.drawn_digest() != without.drawn_digest()


def test_a_model_whose_logits_are_more_than_its_head_is_audited_by_its_own_logits(model: nn.Module, store: TokenStore) -> None:
    def halved(_: nn.Module, __: object, out: Any) -> Any:
        out.logits = out.logits / 2
        return out

    fit = Fit(PaddedLayout(), own_logits=True)
    hook = model.register_forward_hook(halved)
    every = range(store.num_responses)
    per_token = score(model, fit.layout.rows(store, every), own_logits=True).per_token.detach()
    assert furthest(model, store, fit, per_token, every, 1e-4) is None
    hook.remove()
    assert furthest(model, store, fit, per_token, every, 1e-4) is not None, "without it the halves would be missed"
