"""The parts of a run as artifacts of W&B, so that its graph shows which runs share data, ranking and model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dpo_lab.loggers.lineage import DATA, Part

if TYPE_CHECKING:
    import wandb

Sent = Literal["none", "lineage", "policy"]
STARTED_FROM = ("model", DATA, "candidates", "ranking", "pairs", "ranker")
"""Kinds that the graph shows as inputs; token stores and reference passes are left to run.json."""
MODEL_FILES = (".safetensors", ".json", ".model", ".txt", ".jinja")
"""How the names of a model's files end; answers and metrics of the training end otherwise (.jsonl)."""


def digests_of(parts: Sequence[Part]) -> dict[str, dict[str, str]]:
    """Return the ids of all parts by kind and name, for the configuration of a run: what is known of them offline too."""
    digests: dict[str, dict[str, str]] = {}
    for part in parts:
        digests.setdefault(part.kind, {})[part.name] = part.id
    return digests


def send_parts(run: "wandb.Run", parts: Sequence[Part], sent: Sent) -> None:
    """Tell W&B what a run started from and what it made.

    Offline, W&B can note what a run made but not what it uses (`use_artifact` raises TypeError); digests stand in the
    configuration either way.

    Args:
        sent: none: the digests only; lineage: artifacts that hold a digest, no text and no weights; policy: the weights of
            the last policy too.
    """
    run.config.update({"lineage": digests_of(parts)}, allow_val_change=True)  # type: ignore[no-untyped-call]
    if sent == "none":
        return
    policies = [part for part in parts if part.kind == "policy"]
    for part in parts:
        if part in policies:
            files = model_files(part) if sent == "policy" and part is policies[-1] else {}
            run.log_artifact(artifact_of(part, files), aliases=[part.id[:8], "latest"])
        elif part.kind in STARTED_FROM and not run.offline:
            run.use_artifact(artifact_of(part, {}))


def artifact_of(part: Part, files: Mapping[str, Path]) -> "wandb.Artifact":
    """Return an artifact whose content is the part's record, the same for all runs that share it, and some files."""
    import wandb

    record: dict[str, Any] = part.record()
    artifact = wandb.Artifact(part.name, type=part.kind, metadata=record)
    with artifact.new_file("part.json") as file:
        file.write(json.dumps(record, sort_keys=True))
    for name, path in files.items():
        artifact.add_file(str(path), name=name)
    return artifact


def model_files(part: Part) -> dict[str, Path]:
    """Return the files of a policy from which its model is loaded, by name; none if its directory is gone."""
    found = sorted(part.path.iterdir()) if part.path and part.path.is_dir() else []
    return {path.name: path for path in found if path.suffix in MODEL_FILES and path.name != "manifest.json"}
