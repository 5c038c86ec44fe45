"""The plain model of a policy: written, loaded again, and compared with the policy before it is kept."""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpo_lab.amounts import bytes_of
from dpo_lab.components import RunError
from dpo_lab.export.float32 import computing_in_float32
from dpo_lab.export.merged import files_groups, refuse_unmergeable, still_tied
from dpo_lab.export.plain import load_plain, type_of_files
from dpo_lab.export.settings import ExportSettings
from dpo_lab.export.shards import write_shards
from dpo_lab.export.source import Source, revision_of, some_of
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.models.load import evaluating, load_model, load_tokenizer
from dpo_lab.models.storage import Storage
from dpo_lab.models.write import write_beside
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}
"""Largest gap in nats per sequence between the policy as trained and the written model, by the format of the written weights."""


def produce(settings: ExportSettings, source: Source, directory: Path, dtype: str, device: torch.device) -> dict[str, Any]:
    """Write the plain model into a directory and compare it with the policy; return the facts.

    The policy is loaded as training held it and asked first; the written model is loaded by plain transformers, after the
    policy has given up its weights. Both compute in float32, so that the gap is that of the weights and not of the arithmetic.

    Raises:
        RunError: if they differ by more than the format allows; the directory is then left empty.
    """
    store, rows = source.rows()
    responses = some_of(store)
    original = Storage(dtype=type_of_files(source.base, revision_of(source)), revision=revision_of(source))
    held = source.storage or original
    policy = opened(source, held, device)
    refuse_unmergeable(policy)
    expected = log_probabilities(policy, store, responses, device)
    if settings.base == "original" and held != original:
        del policy
        policy = opened(source, original, device)
    counts = write_plain(policy, source, directory, dtype, settings.max_shard_size, held.revision)
    del policy
    written = log_probabilities(computing_in_float32(load_plain(directory, DTYPES[dtype], device)), store, responses, device)
    gap, quantised = float((written - expected).abs().max()), settings.base == "original" and held.quant.bits > 0
    if not quantised:
        refuse_gap(gap, f"{len(responses)} {rows}", settings, dtype, directory)
    return {
        "policy": str(source.path),
        "gap": gap,
        "tolerance": None if quantised else TOLERANCE[dtype],
        "rows": f"{len(responses)} {rows}",
        "base": settings.base if source.has_adapter else None,
        "quantisation_error": quantised,
        "dtype": dtype,
        **counts,
    }


def opened(source: Source, storage: Storage, device: torch.device) -> Any:
    """Return the policy with its base held in some way; it computes in float32."""
    return computing_in_float32(load_model(str(source.path), storage, device, source.base).model)


def write_plain(
    policy: Any, source: Source, directory: Path, dtype: str, max_shard_size: str, revision: str | None
) -> dict[str, Any]:
    """Write a policy's merged weights, tokenizer and configuration; return how many files and weights there are."""
    tied = bool(still_tied(policy))
    counts: dict[str, Any] = write_shards(files_groups(policy, DTYPES[dtype]), directory, bytes_of(max_shard_size))
    tokenizer, kind = load_tokenizer(str(source.path), revision), str(DTYPES[dtype]).removeprefix("torch.")
    write_beside(policy, tokenizer, directory, source.base, revision, dtype=kind, tied=tied)
    return counts


def refuse_gap(gap: float, compared: str, settings: ExportSettings, dtype: str, directory: Path) -> None:
    """Raise RunError, and empty the directory, if the written model is further from the policy than its format allows."""
    if gap <= TOLERANCE[dtype]:
        return
    empty(directory)
    raise RunError(
        f"the written model is {gap:.2g} nats per sequence away from the policy (largest of {compared}), more than "
        f"{TOLERANCE[dtype]:g} for {dtype}, so it is not that policy and nothing was kept. {remedy(settings, dtype)}"
    )


def log_probabilities(model: Any, store: TokenStore, responses: list[int], device: torch.device) -> Tensor:
    """Return the log-probability of each response by the model's own logits, one row at a time, (responses,)."""
    with evaluating(model):
        sums = [
            score(model, PaddedLayout().rows(store, [response]).to(device), own_logits=True).sums.double().cpu()
            for response in responses
        ]
    return torch.cat(sums)


def remedy(settings: ExportSettings, dtype: str) -> str:
    """Return what to change where the gap is too large."""
    if dtype == "bf16":
        return "Rounding the sum to bf16 may be the reason: use export.dtype=fp32."
    if settings.base == "original":
        return "Use export.base=trained."
    return "Weights that changed on disk since the training are the usual reason: train again."


def empty(directory: Path) -> None:
    """Remove what was written."""
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
