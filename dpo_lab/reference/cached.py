"""The cached reference: scored once per token store, kept on disk by content, audited when it is used again."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, PositiveFloat
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.components import RunError, component
from dpo_lab.layouts.base import ResponseBatch
from dpo_lab.models.load import evaluating, weights_digest
from dpo_lab.progress import part, say
from dpo_lab.reference.base import Reference, ReferenceModel, ReferenceScorer
from dpo_lab.reference.parts import Parts
from dpo_lab.scoring.fitting import Fit
from dpo_lab.scoring.logps import ResponseLogps
from dpo_lab.scoring.passes import batches_of, token_positions
from dpo_lab.scoring.rounding import beyond, rounding
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore

SCORING_VERSION = 2  # raise it when the same weights and ids would give other numbers
FILE, PARTS = "logps.safetensors", "parts"


class ReferenceDriftError(RunError):
    """Kept log-probabilities do not agree with the model that they are said to come from."""


@component
class CachedReference(Reference):
    """Per-token log-probabilities, computed once per token store and kept on disk."""

    scores_live: ClassVar[bool] = False
    writes_into: ClassVar[tuple[str, ...]] = ("root",)

    audit_rows: Annotated[int, Field(ge=0)] = 4
    """Random responses that are scored again whenever a kept pass is used."""
    tolerance: PositiveFloat | None = None
    """Largest difference in nats per response that the audit accepts (another batch shape gives other rounding); null: 1e-3
    where everything is computed in fp32, in bf16 from 5e-2 on, more for longer responses."""
    root: Path | None = None
    """Where passes are kept; null: below the run's outputs. One place for many outputs lets them share passes."""

    def idle(self) -> Mapping[str, str]:
        """Return how exact an audit is that does not happen."""
        return {} if self.audit_rows else {"tolerance": "no response is scored again (reference.audit_rows=0)"}

    def content(self) -> dict[str, Any]:
        """Return the kind alone: the audit does not change the numbers."""
        return {"class": "cached"}

    def scorer(
        self, model: ReferenceModel, store: TokenStore, fit: Fit, *, root: Path, name: str
    ) -> tuple[ReferenceScorer, float]:
        """Return the scorer that looks the store's numbers up, and the seconds that scoring them took."""
        scorer, artifact = reference_pass(model.load(), store, fit, self, root=self.root or root, name=name)
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
    model: nn.Module, store: TokenStore, fit: Fit, cached: CachedReference, *, root: Path, name: str
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
        "scoring": [SCORING_VERSION, fit.own_logits],
    }
    plan = Plan(root, "reference", name, content)

    artifact = plan.make(lambda directory: _score(model, store, fit, directory), resume=True)
    per_token = load_file(artifact.path / FILE)["per_token"]
    if not artifact.made_now:
        audit(model, store, fit, per_token, cached, artifact.path)
    return CachedScorer(per_token, store), artifact


def _score(model: nn.Module, store: TokenStore, fit: Fit, directory: Path) -> dict[str, Any]:
    parts = Parts(directory / PARTS, store)
    if message := parts.missing():
        say(f"  {message}")
    device = next(model.parameters()).device
    forwards = 0
    with evaluating(model), part("reference", store.num_responses) as shown:
        for responses in batches_of(store, fit.layout):
            resumed = bool(parts.known[responses].all())
            if not resumed:
                batch = fit.layout.rows(store, responses).to(device)
                parts.add(batch.responses.cpu(), score(model, batch, own_logits=fit.own_logits).per_token.float().cpu())
                forwards += len(responses)
            shown.advance(len(responses), resumed=resumed)
    save_file({"per_token": parts.per_token}, directory / FILE)
    parts.remove()
    return {"responses": store.num_responses, "forwards": forwards}


def number_format(model: nn.Module) -> str:
    """Return the dtype of the weights, and the one that is computed in if autocast says another."""
    weight = next(model.parameters())
    kind = weight.device.type
    computed = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    return f"{weight.dtype} {computed}"


def audit(model: nn.Module, store: TokenStore, fit: Fit, per_token: Tensor, cached: CachedReference, path: Path) -> None:
    """Score a few random responses again and compare them with the kept numbers."""
    count = min(cached.audit_rows, store.num_responses)
    if not count:
        return
    # other rows each time, so that in the end all are looked at; no result depends on which
    generator = torch.Generator().manual_seed(time.time_ns())
    chosen = torch.randperm(store.num_responses, generator=generator)[:count]
    batch = fit.layout.rows(store, chosen.tolist())
    kept = CachedScorer(per_token, store)(batch).sums
    with evaluating(model):
        now = score(model, batch.to(next(model.parameters()).device), own_logits=fit.own_logits).sums.cpu()
    drift = (now - kept).abs()
    allowed = torch.full_like(drift, cached.tolerance) if cached.tolerance else rounding(model, batch.counts)
    if worst := beyond(drift, allowed):
        raise ReferenceDriftError(
            f"{path}: one of {count} responses scored again differs by {worst[0]:.2g} nats from the kept numbers "
            f"(allowed {worst[1]:.2g}, reference.tolerance). Remove this directory to score all of them again."
        )
