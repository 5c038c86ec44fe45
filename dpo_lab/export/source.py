"""What is exported: the policy of a run or of a directory, how its base was held, and the rows that it is checked on."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpo_lab.artifacts import Artifact, file_digest
from dpo_lab.components import ConfigError
from dpo_lab.damage import examine
from dpo_lab.models.directory import ADAPTER_CONFIG, base_of, refuse_missing_base
from dpo_lab.models.load import load_tokenizer
from dpo_lab.models.spec import PretrainedModel
from dpo_lab.models.storage import Storage, storage_from
from dpo_lab.run_directory import RunDirectory
from dpo_lab.spelling import nearest_path
from dpo_lab.tokens.store import StoreBuilder, TokenStore

MAX_ROWS = 32
TEXTS = (
    "The capital of France is Paris, and the river that runs through it is the Seine.",
    "Write a short story about a lighthouse keeper who has not spoken to anyone for a year.",
    "To make bread you need flour, water, salt and yeast. Mix them, wait an hour, and bake.",
    "def add(a, b):\n    return a + b\n",
)
"""Scored where no rows of the training are found."""


@dataclass(frozen=True)
class Source:
    """A policy to export."""

    path: Path
    name: str
    """Readable part of the export's name."""
    identity: dict[str, Any]
    """What determines its weights."""
    storage: Storage | None
    """How its base was held in training; None if nothing says so."""
    base: str
    """Directory or Hub id of the base; the policy itself where it has all weights."""
    rows: Callable[[], tuple[TokenStore, str]]
    """Returns what it is checked on, and what that is called."""

    @property
    def has_adapter(self) -> bool:
        """Whether there is anything to merge."""
        return (self.path / ADAPTER_CONFIG).exists()


def source_of(policy: str, base_path: str | None = None) -> Source:
    """Return the policy of a directory; of a finished run its last.

    Args:
        base_path: where the base of an adapter is now; None: where the adapter says.

    Raises:
        ConfigError: if there is none.
    """
    directory = Path(policy)
    if not RunDirectory(directory).is_run:
        return _of_directory(directory, None, base_path)
    _refuse_damaged(policy, directory)
    if Artifact.open(directory) is None:
        raise ConfigError(f"policy={policy} is an unfinished run: it has no manifest.json. Run it to its end first.")
    lineage = RunDirectory(directory).run()["lineage"]
    policies = [artifact for artifact in lineage if artifact["kind"] == "policy"]
    held_out = [
        artifact
        for artifact in lineage
        if artifact["kind"] == "tokens" and artifact["name"].rpartition("-")[0].endswith("-held-out")
    ]
    rows = _place(directory, held_out[-1]) if held_out else None
    return _of_directory(_place(directory, policies[-1]), rows, base_path)


def _refuse_damaged(policy: str, directory: Path) -> None:
    if damage := examine(directory).damage:
        raise ConfigError(
            f"policy={policy}: {directory} is damaged ({damage}). Run the training again: it makes that part again."
        )


def _place(run: Path, entry: dict[str, Any]) -> Path:
    """Return where an artifact of a run's lineage stands: beside the run, or where it was when the run was made."""
    beside = run.resolve().parents[1] / entry["kind"] / entry["name"]
    for path in (beside, Path(entry["path"])):
        _refuse_damaged(str(run), path)
        if (found := Artifact.open(path)) and found.id == entry["id"]:
            return path
    raise ConfigError(f"policy={run}: its {entry['kind']} is not at {beside} any more. Run the training again.")


def _of_directory(path: Path, held_out: Path | None, base_path: str | None) -> Source:
    _refuse_damaged(str(path), path)
    artifact = Artifact.open(path)
    if not path.is_dir():
        meant = nearest_path(path)
        instead = f"Did you mean 'policy={meant}'?" if meant else "Give that of a finished run, or of a policy."
        raise ConfigError(f"policy={path} is not a directory (in {Path.cwd()}). {instead}")
    if artifact is None and not any((path / name).is_file() for name in (ADAPTER_CONFIG, "config.json")):
        raise ConfigError(f"policy={path} holds no model: there is neither {ADAPTER_CONFIG} nor config.json in it.")
    if (path / "checkpoints").exists() and artifact is None:
        raise ConfigError(f"policy={path} is an unfinished training. Run it to its end first.")
    record = artifact.facts.get("held") if artifact else None
    adapter = (path / ADAPTER_CONFIG).exists()
    storage = storage_from(record) if record else None if adapter else Storage()
    if base_path and not adapter:
        raise ConfigError(f"export.base_path={base_path} has no effect: policy={path} has all weights, and no base.")
    base = base_of(base_path or str(path))
    if adapter:
        refuse_missing_base(f"policy={path}", base, "If it was moved, use export.base_path=DIR.")
    if artifact:
        identity: dict[str, Any] = {"policy": artifact.id}
    else:
        revision = storage.revision if storage else None
        files = {each.name: file_digest(each) for each in sorted(path.glob("*")) if each.is_file()}
        identity = {
            "files": files,
            "base": PretrainedModel(path=base, revision=revision, licence="").birth() if adapter else None,
        }
    fingerprint = artifact.manifest["content"].get("tokens") if artifact else None
    name = path.resolve().name
    return Source(
        path,
        name.rpartition("-")[0] if artifact else name,
        identity,
        storage,
        base,
        lambda: _rows(path, held_out, fingerprint),
    )


def _rows(policy: Path, held_out: Path | None, fingerprint: str | None) -> tuple[TokenStore, str]:
    if held_out:
        return TokenStore.open(held_out), "held-out rows"
    for each in sorted(policy.resolve().parents[1].glob("tokens/*/fingerprint.json")) if fingerprint else ():
        if Artifact.open(each.parent) and json.loads(each.read_text(encoding="utf-8"))["fingerprint"] == fingerprint:
            return TokenStore.open(each.parent), "rows of the training"
    tokenizer = load_tokenizer(str(policy))
    builder = StoreBuilder()
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        builder.add_response(ids[:1], ids[1:])
    return builder.build(), "fixed texts"


def revision_of(source: Source) -> str | None:
    """Return the commit or tag of the base, if it was recorded."""
    return source.storage.revision if source.storage else None


def some_of(store: TokenStore) -> list[int]:
    """Return at most 32 responses of a store, evenly spread."""
    count = len(store.response_ends)
    return sorted({int(at) for at in np.linspace(0, count - 1, min(count, MAX_ROWS))})
