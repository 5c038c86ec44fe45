"""The cached reference: scored once per token store, kept on disk by content, audited when it is used again."""

import time
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, PositiveFloat
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.components import RunError, component
from dpo_lab.layouts.base import Layout, ResponseBatch
from dpo_lab.models.load import evaluating, weights_digest
from dpo_lab.progress import part
from dpo_lab.reference.base import Reference, ReferenceScorer
from dpo_lab.scoring.logps import ResponseLogps
from dpo_lab.scoring.passes import score_store, scorer_of, token_positions
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore

SCORING_VERSION = 1  # raise it when the same weights and ids would give other numbers
FILE = "logps.safetensors"


class ReferenceDriftError(RunError):
    """Kept log-probabilities do not agree with the model that they are said to come from."""


@component
class CachedReference(Reference):
    """Per-token log-probabilities, computed once per token store and kept on disk."""

    audit_rows: Annotated[int, Field(ge=0)] = 4
    """Random responses that are scored again whenever a kept pass is used."""
    tolerance: PositiveFloat = 1e-3
    """Largest difference in nats per response that the audit accepts (another batch shape gives other rounding)."""

    def content(self) -> dict[str, Any]:
        """Return the kind alone: the audit does not change the numbers."""
        return {"class": "cached"}

    def scorer(
        self, model: nn.Module, store: TokenStore, layout: Layout, *, root: Path, name: str, own_logits: bool
    ) -> tuple[ReferenceScorer, float]:
        """Return the scorer that looks the store's numbers up, and the seconds that scoring them took."""
        scorer, artifact = reference_pass(model, store, layout, self, root=root, name=name, own_logits=own_logits)
        return scorer, artifact.seconds


class CachedScorer(ReferenceScorer):
    """Looks the log-probabilities of a batch's responses up."""

    per_token: Tensor
    ends: Tensor

    def __init__(self, per_token: Tensor, store: TokenStore) -> None:
        super().__init__()
        self.register_buffer("per_token", per_token, persistent=False)
        self.register_buffer("ends", torch.from_numpy(store.response_ends.copy()), persistent=False)

    def forward(self, batch: ResponseBatch) -> ResponseLogps:
        """Return the stored log-probabilities of the batch's responses."""
        positions = token_positions(self.ends, batch.responses, batch.targets.shape[0])
        return ResponseLogps(self.per_token[positions], batch.counts)


def reference_pass(
    model: nn.Module, store: TokenStore, layout: Layout, cached: CachedReference, *, root: Path, name: str, own_logits: bool
) -> tuple[CachedScorer, Artifact]:
    """Return the scorer of a store under a model, from disk if the same weights have scored the same ids before.

    Nothing but weights, token ids and the scoring itself is part of the key: a changed loss, learning rate, seed,
    adapter shape or output name finds the pass again.

    Raises:
        ReferenceDriftError: if a kept pass does not agree with the model any more.
    """
    content = {
        "weights": weights_digest(model),
        "tokens": store.fingerprint(),
        "dtype": number_format(model),
        "scoring": [SCORING_VERSION, own_logits],
    }
    plan = Plan(root, "reference", name, content)

    def produce(directory: Path) -> dict[str, Any]:
        with evaluating(model), part("reference", store.num_responses) as shown:
            device = next(model.parameters()).device
            per_token = score_store(scorer_of(model, own_logits=own_logits), store, layout, device, shown.advance).per_token
        save_file({"per_token": per_token}, directory / FILE)
        return {"responses": store.num_responses, "forwards": store.num_responses}

    artifact = plan.make(produce)
    per_token = load_file(artifact.path / FILE)["per_token"]
    if not artifact.made_now:
        audit(model, store, layout, per_token, cached, artifact.path, own_logits=own_logits)
    return CachedScorer(per_token, store), artifact


def number_format(model: nn.Module) -> str:
    """Return the dtype of the weights, and the one that is computed in if autocast says another."""
    weight = next(model.parameters())
    kind = weight.device.type
    computed = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    return f"{weight.dtype} {computed}"


def audit(
    model: nn.Module,
    store: TokenStore,
    layout: Layout,
    per_token: Tensor,
    cached: CachedReference,
    path: Path,
    *,
    own_logits: bool,
) -> None:
    """Score a few random responses again and compare them with the kept numbers."""
    count = min(cached.audit_rows, store.num_responses)
    if not count:
        return
    # other rows each time, so that in the end all are looked at; no result depends on which
    generator = torch.Generator().manual_seed(time.time_ns())
    chosen = torch.randperm(store.num_responses, generator=generator)[:count]
    batch = layout.rows(store, chosen.tolist()).to(next(model.parameters()).device)
    with evaluating(model):
        now = score(model, batch, own_logits=own_logits).sums.cpu()
    kept = CachedScorer(per_token, store)(layout.rows(store, chosen.tolist())).sums
    drift = float((now - kept).abs().max())
    if not drift <= cached.tolerance:
        raise ReferenceDriftError(
            f"{path}: {count} responses scored again differ by up to {drift:.2g} nats from the kept numbers "
            f"(reference.tolerance={cached.tolerance}). Remove this directory to score all of them again."
        )
