"""The cached reference: scored once per token store or as it was drawn, kept on disk by content, audited."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, PositiveFloat
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.components import component
from dpo_lab.layouts.base import ResponseBatch
from dpo_lab.models.load import evaluating, weights_digest
from dpo_lab.progress import part, say
from dpo_lab.reference.audit import computed_in, drawn_in, not_as_drawn, reason_against_drawn, refuse_drift
from dpo_lab.reference.base import Reference, ReferenceModel, ReferenceScorer
from dpo_lab.reference.parts import Parts
from dpo_lab.scoring.fitting import Fit
from dpo_lab.scoring.logps import ResponseLogps
from dpo_lab.scoring.passes import batches_of, token_positions
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore

SCORING_VERSION = 2  # raise it when the same weights and ids would give other numbers
FILE, PARTS = "logps.safetensors", "parts"


@component
class CachedReference(Reference):
    """Per-token log-probabilities, computed once per token store and kept on disk."""

    scores_live: ClassVar[bool] = False
    writes_into: ClassVar[tuple[str, ...]] = ("root",)

    audit_rows: Annotated[int, Field(ge=0)] = 4
    """Responses that are scored again whenever a kept pass, or what was drawn with the answers, is used; 0 takes nothing as
    drawn."""
    tolerance: PositiveFloat | None = None
    """Largest difference in nats per response that the audit accepts (another batch shape gives other rounding); null: 1e-3
    where everything is computed in fp32, in bf16 from 5e-2 on, more for longer responses."""
    root: Path | None = None
    """Where passes are kept; null: below the run's outputs. One place for many outputs lets them share passes."""

    def idle(self) -> Mapping[str, str]:
        """Return how exact an audit is that does not happen."""
        return {} if self.audit_rows else {"tolerance": "no response is scored again (reference.audit_rows=0)"}

    @property
    def takes_drawn(self) -> bool:
        """Whether they may stand for a pass: only where the audit looks at some of them."""
        return self.audit_rows > 0

    def content(self) -> dict[str, Any]:
        """Return the kind, and whether numbers are never taken as they were drawn: of the audit nothing else changes them."""
        return {"class": "cached", **({} if self.takes_drawn else {"takes_drawn": False})}

    def scorer(
        self, model: ReferenceModel, store: TokenStore, fit: Fit, *, root: Path, name: str
    ) -> tuple[ReferenceScorer, float]:
        """Return the scorer that looks the store's numbers up, and the seconds that scoring them took."""
        scorer, artifact = reference_pass(model.load(), store, fit, self, root=self.root or root, name=name, drew=model.drew)
        return scorer, artifact.seconds


class CachedScorer(ReferenceScorer):
    """Looks the log-probabilities of a batch's responses up."""

    per_token: Tensor
    ends: Tensor

    def __init__(self, per_token: Tensor, store: TokenStore, *, as_drawn: bool = False, note: str = "") -> None:
        super().__init__()
        self.as_drawn, self.note = as_drawn, note
        self.register_buffer("per_token", per_token, persistent=False)
        self.register_buffer("ends", torch.from_numpy(store.response_ends.copy()), persistent=False)

    def forward(self, batch: ResponseBatch) -> ResponseLogps:
        """Return the stored log-probabilities of the batch's responses."""
        positions = token_positions(self.ends, batch.responses, batch.targets.shape[0])
        return ResponseLogps(self.per_token[positions], batch.counts)


def reference_pass(
    model: nn.Module, store: TokenStore, fit: Fit, cached: CachedReference, *, root: Path, name: str, drew: bool = False
) -> tuple[CachedScorer, Artifact]:
    """Return the scorer of a store under a model, from disk if the same weights have scored the same ids before.

    Nothing but weights, token ids and the scoring itself is part of the key: a changed loss, learning rate, seed,
    adapter shape or output name finds the pass again.

    Args:
        drew: the model drew the responses: the log-probabilities that it gave then are taken if the audit finds them to be
            those of a pass, and responses that were cut since are scored; else all are, and the scorer's note says why.

    Raises:
        ReferenceDriftError: if a kept pass does not agree with the model any more.
    """
    content = {
        "weights": weights_digest(model),
        "tokens": store.fingerprint(),
        "dtype": number_format(model),
        "scoring": [SCORING_VERSION, fit.own_logits],
    }
    how: dict[str, Any] = {"rows": cached.audit_rows, "tolerance": cached.tolerance}
    drew = drew and store.drawn_logps is not None
    why_not = reason_against_drawn(model, store, fit, **how) if drew else ""
    if as_drawn := drew and not why_not:
        content["drawn"] = store.drawn_digest()
    plan = Plan(root, "reference", name, content)

    artifact = plan.make(lambda directory: _score(model, store, fit, directory, as_drawn=as_drawn), resume=True)
    per_token = load_file(artifact.path / FILE)["per_token"]
    if not (artifact.made_now or as_drawn):
        refuse_drift(model, store, fit, per_token, path=artifact.path, **how)
    scorer = CachedScorer(per_token, store, as_drawn=as_drawn, note=not_as_drawn(why_not) if why_not else "")
    return scorer, artifact


def _score(model: nn.Module, store: TokenStore, fit: Fit, directory: Path, *, as_drawn: bool) -> dict[str, Any]:
    parts = Parts(directory / PARTS, store)
    if message := parts.missing():
        say(f"  {message}")
    if as_drawn:
        parts.take_drawn(store)
    device = next(model.parameters()).device
    forwards = 0
    with evaluating(model), part("reference", store.num_responses) as shown:
        for responses in batches_of(store, fit.layout):
            unknown = [response for response in responses if not parts.known[response]]
            if unknown:
                batch = fit.layout.rows(store, unknown).to(device)
                parts.add(batch.responses.cpu(), score(model, batch, own_logits=fit.own_logits).per_token.float().cpu())
                forwards += len(unknown)
            shown.advance(len(responses), resumed=not unknown)
    save_file({"per_token": parts.per_token}, directory / FILE)
    parts.remove()
    return {"responses": store.num_responses, "forwards": forwards} | ({"drawn": int(drawn_in(store).sum())} if as_drawn else {})


def number_format(model: nn.Module) -> str:
    """Return the dtype of the weights, and the one that is computed in if autocast says another."""
    return f"{next(model.parameters()).dtype} {computed_in(model)}"
