"""The audit: a few responses are scored again and compared with log-probabilities that are to stand for a pass."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from dpo_lab.components import RunError
from dpo_lab.models.load import evaluating
from dpo_lab.scoring.fitting import Fit
from dpo_lab.scoring.logps import ResponseLogps
from dpo_lab.scoring.passes import token_positions
from dpo_lab.scoring.rounding import BF16_LEAST, beyond, rounding
from dpo_lab.scoring.score import score
from dpo_lab.seeding import derive
from dpo_lab.tokens.store import TokenStore


class ReferenceDriftError(RunError):
    """Kept log-probabilities do not agree with the model that they are said to come from."""


def refuse_drift(
    model: nn.Module, store: TokenStore, fit: Fit, per_token: Tensor, *, rows: int, tolerance: float | None, path: Path
) -> None:
    """Raise ReferenceDriftError if the kept numbers of a few random responses are not the model's.

    Args:
        path: where the numbers are kept.
    """
    # other rows each time, so that in the end all are looked at; no result depends on which
    generator = torch.Generator().manual_seed(time.time_ns())
    chosen = torch.randperm(store.num_responses, generator=generator)[:rows].tolist()
    if worst := furthest(model, store, fit, per_token, chosen, tolerance):
        raise ReferenceDriftError(
            f"{path}: one of {len(chosen)} responses scored again differs by {worst[0]:.2g} nats from the kept numbers "
            f"(allowed {worst[1]:.2g}, reference.tolerance). Remove this directory to score all of them again."
        )


def reason_against_drawn(model: nn.Module, store: TokenStore, fit: Fit, *, rows: int, tolerance: float | None) -> str:
    """Return why the log-probabilities that a model gave while it drew a store's responses are not used, or an empty text.

    The rows follow from the token ids: what is trained depends on the answer, so it is the same each time.
    """
    if not rows:
        return "reference.audit_rows=0 would not check them"
    if (computed := computed_in(model)) != (held := next(model.parameters()).dtype):
        return f"they were drawn in {plain(held)}, and the reference is computed in {plain(computed)}"
    drawn = drawn_in(store).nonzero().flatten()
    generator = torch.Generator().manual_seed(derive(0, "audit", store.fingerprint()))
    chosen = drawn[torch.randperm(len(drawn), generator=generator)[:rows]].tolist()
    worst = furthest(model, store, fit, torch.tensor(store.drawn_logps), chosen, tolerance, at_most=BF16_LEAST)
    if not worst:
        return ""
    return (
        f"one of {len(chosen)} responses scored again differs by {worst[0]:.2g} nats, allowed {worst[1]:.2g}: reference.tolerance"
    )


def not_as_drawn(reason: str) -> str:
    """Return the line that says why drawn log-probabilities are not used."""
    return f"the log-probabilities that were drawn with the answers are not used ({reason}): the reference scores all answers"


def drawn_in(store: TokenStore) -> Tensor:
    """Return which responses of a store have log-probabilities that were drawn with them, (responses,) bool."""
    if store.drawn_logps is None:
        return torch.zeros(store.num_responses, dtype=torch.bool)
    return ~torch.from_numpy(store.drawn_logps[store.response_ends - 1]).isnan()


def furthest(
    model: nn.Module,
    store: TokenStore,
    fit: Fit,
    per_token: Tensor,
    chosen: Sequence[int],
    tolerance: float | None,
    *,
    at_most: float = math.inf,
) -> tuple[float, float] | None:
    """Return gap and allowance, in nats, of the response furthest beyond what is allowed; None if all of them are within.

    Args:
        per_token: (tokens of all responses,) the log-probabilities that are compared with the model's.
        tolerance: nats per response; None: what the number format explains, `at_most` so much.
    """
    if not chosen:
        return None
    batch = fit.layout.rows(store, chosen)
    ends = torch.from_numpy(store.response_ends.copy())
    kept = ResponseLogps(per_token[token_positions(ends, batch.responses, len(batch.targets))], batch.counts)
    there = batch.to(next(model.parameters()).device)
    with evaluating(model):
        now = score(model, there, own_logits=fit.own_logits)
    gaps = (now.sums.cpu() - kept.sums).abs()
    allowed = torch.full_like(gaps, tolerance) if tolerance else rounding(model, there.counts).clamp(max=at_most).cpu()
    return beyond(gaps, allowed)


def computed_in(model: nn.Module) -> torch.dtype:
    """Return the dtype of a model's weights, or the one that is computed in if autocast says another."""
    weight = next(model.parameters())
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def plain(dtype: torch.dtype) -> str:
    """Return the name of a dtype."""
    return str(dtype).removeprefix("torch.")
