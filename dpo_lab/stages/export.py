"""The stage `export`: a policy as one plain model, its adapter merged into the base that it was trained on, and checked."""

import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from dpo_lab.amounts import bytes_text
from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.components import Component, ConfigError, RunError, component
from dpo_lab.export.float32 import computing_in_float32
from dpo_lab.export.merged import files_groups, refuse_unmergeable, still_tied
from dpo_lab.export.plain import dtype_on_disk, load_plain, type_of_files
from dpo_lab.export.shards import size_of, write_shards
from dpo_lab.export.source import Source, some_of, source_of
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.models.given import recorded_below
from dpo_lab.models.load import evaluating, load_model, load_tokenizer
from dpo_lab.models.storage import Storage
from dpo_lab.models.write import write_beside
from dpo_lab.progress import say
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}
"""Largest gap in nats per sequence between the policy as trained and the written model, by the format of the written weights."""


@component
class ExportSettings(Component):
    """What is written."""

    base: Literal["trained", "original"] = "trained"
    """trained: the base as training held it, dequantised. original: the weights on disk, which a quantised base is not."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the written weights. auto: bf16 where the base's file is in half precision, else fp32."""
    max_shard_size: Annotated[str, Field(pattern=r"^[1-9]\d*(KB|MB|GB)$")] = "5GB"
    """Of a file of weights."""
    base_path: str | None = None
    """Where the base of an adapter is now, if it was moved since the training; null: where the adapter says."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it is merged and checked. auto: a GPU if there is one, but the CPU for an 8-bit base."""


@component
class Export(Component):
    """Write a policy as one plain model, and check that it is that policy."""

    export: ExportSettings = ExportSettings()
    policy: str
    """Directory of a finished run of train, whose last policy is taken, or of a policy: a PEFT adapter, or all weights."""
    outputs: Path = Path("outputs")
    """Everything that is written goes below it."""
    force: bool = False
    """Write it again even if it is there."""

    def run(self) -> dict[str, Any]:
        """Write the model, or return the facts of the finished one at once."""
        with recorded_below(self.outputs):
            source = source_of(self.policy, self.export.base_path)
        refuse_unknown_base(source, self.export)
        device = device_of(self.export, source)
        dtype = self.export.dtype if self.export.dtype != "auto" else dtype_on_disk(source.base, revision_of(source))
        content = {"source": source.identity, "base": self.export.base, "dtype": dtype, "shards": self.export.max_shard_size}
        parents = [source.identity["policy"]] if "policy" in source.identity else []
        name = f"{source.name}-{self.export.base}-{dtype}" if source.has_adapter else f"{source.name}-{dtype}"
        plan = Plan(self.outputs, "export", name, content, parents=parents)
        made = plan.make(lambda directory: produce(self.export, source, directory, dtype, device), force=self.force)
        tell(made)
        return made.facts


def revision_of(source: Source) -> str | None:
    """Return the commit or tag of the base, if it was recorded."""
    return source.storage.revision if source.storage else None


def refuse_unknown_base(source: Source, settings: ExportSettings) -> None:
    """Raise ConfigError if an adapter would have to be merged into a base of which nothing says how it was held."""
    if source.storage is None and settings.base == "trained":
        raise ConfigError(
            f"policy={source.path}: nothing records how its base was held in training (quantised, or as on disk). "
            "export.base=original merges into the weights on disk, which is right for an adapter trained without quantisation."
        )


def device_of(settings: ExportSettings, source: Source) -> torch.device:
    """Return where the work is done.

    On a GPU an 8-bit layer rounds its inputs too (LLM.int8()), which no merged weight can repeat; on a CPU, in train mode, it
    does not.
    """
    eight = source.storage is not None and source.storage.quant.bits == 8
    if eight and settings.device == "cuda":
        raise ConfigError(
            "export.device=cuda: an 8-bit layer on a GPU rounds its inputs as well as its weights, so that no merged model "
            "agrees with it. Use export.device=cpu."
        )
    on_gpu = settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available() and not eight)
    return torch.device("cuda" if on_gpu else "cpu")


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
    policy = computing_in_float32(load_model(str(source.path), held, device, source.base).model)
    refuse_unmergeable(policy)
    expected = log_probabilities(policy, store, responses, device)
    if settings.base == "original" and held != original:
        del policy
        policy = computing_in_float32(load_model(str(source.path), original, device, source.base).model)
    tied = bool(still_tied(policy))
    counts = write_shards(files_groups(policy, DTYPES[dtype]), directory, size_of(settings.max_shard_size))
    tokenizer, kind = load_tokenizer(str(source.path), held.revision), str(DTYPES[dtype]).removeprefix("torch.")
    write_beside(policy, tokenizer, directory, source.base, held.revision, dtype=kind, tied=tied)
    del policy
    written = log_probabilities(computing_in_float32(load_plain(directory, DTYPES[dtype], device)), store, responses, device)
    gap, tolerance = float((written - expected).abs().max()), TOLERANCE[dtype]
    quantised = settings.base == "original" and held.quant.bits > 0
    if not gap <= tolerance and not quantised:
        empty(directory)
        raise RunError(
            f"the written model is {gap:.2g} nats per sequence away from the policy (largest of {len(responses)} {rows}), more "
            f"than {tolerance:g} for {dtype}, so it is not that policy and nothing was kept. {remedy(settings, dtype)}"
        )
    return {
        "policy": str(source.path),
        "gap": gap,
        "tolerance": None if quantised else tolerance,
        "rows": f"{len(responses)} {rows}",
        "base": settings.base if source.has_adapter else None,
        "quantisation_error": quantised,
        "dtype": dtype,
        **counts,
    }


def log_probabilities(model: Any, store: TokenStore, responses: list[int], device: torch.device) -> Tensor:
    """Return the log-probability of each response by the model's own logits, one row at a time, (responses,)."""
    with evaluating(model):
        sums = [
            score(model, PaddedLayout().rows(store, [each]).to(device), own_logits=True).sums.double().cpu() for each in responses
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


def tell(made: Artifact) -> None:
    """Print where the model is and how far it is from the policy."""
    facts = made.facts
    what = "written" if made.made_now else "was written before; force=true writes it again"
    size = f"{facts['dtype']}, {facts['files']} files, {bytes_text(facts['bytes'])}"
    say(f"export {made.path}  {size}, {what}")
    say(f"  policy {facts['policy']}")
    gap = f"  gap to the policy {facts['gap']:.2g} nats per sequence, largest of {facts['rows']}"
    if facts["quantisation_error"]:
        gap += ": quantisation error, for the adapter was trained on the quantised base and is merged into the original weights"
    else:
        gap += f" (at most {facts['tolerance']:g})"
    say(gap)
    say(f"  next: vllm serve {made.path}   |   python convert_hf_to_gguf.py {made.path}")
