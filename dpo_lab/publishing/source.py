"""What is published: the pairs of a run or the model that it trained, found from a run's directory or from their own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dpo_lab.artifacts import Artifact
from dpo_lab.components import ConfigError
from dpo_lab.damage import ancestors, examine
from dpo_lab.models.directory import ADAPTER_CONFIG
from dpo_lab.run_directory import CALL, RUN, RunDirectory, runs_below
from dpo_lab.spelling import nearest_path

Kind = Literal["pairs", "model"]
MODELS = ("policy", "export")
"""Kinds of artifacts that are models."""


@dataclass(frozen=True)
class Source:
    """What a directory holds to publish."""

    path: Path
    pairs: tuple[Artifact, ...]
    """Of each round, in order; none where the run made none."""
    model: Artifact | None
    run: Path | None
    """The run that made it, None if none is found beside it."""

    @property
    def call(self) -> dict[str, Any]:
        """The resolved configuration of the run's command line; empty without one."""
        found = RunDirectory(self.run).read_if_whole(CALL).get("config") if self.run else None
        return found if isinstance(found, dict) else {}

    @property
    def words(self) -> list[str]:
        """What was typed on the run's command line after its program; empty without one."""
        found = RunDirectory(self.run).read_if_whole(CALL).get("overrides") if self.run else None
        return [str(word) for word in found] if isinstance(found, list) else []

    @property
    def about(self) -> dict[str, Any]:
        """What the run says of itself; empty without a run."""
        return RunDirectory(self.run).run() if self.run else {}

    def kind(self, asked: str) -> Kind:
        """Return what of it is published.

        Args:
            asked: pairs, model, or auto: what the directory holds, and of a run its pairs.

        Raises:
            ConfigError: if it has nothing of that kind.
        """
        if asked == "pairs" and not self.pairs:
            raise ConfigError(f"what=pairs: {self.path} made no pairs itself. Use what=model, or another source.")
        if asked == "model" and self.model is None:
            raise ConfigError(f"what=model: {self.path} holds pairs and no model. Use what=pairs, or another source.")
        return "pairs" if asked == "pairs" or (asked == "auto" and self.pairs) else "model"

    @property
    def has_adapter(self) -> bool:
        """Whether the model is an adapter, which needs a base."""
        return self.model is not None and (self.model.path / ADAPTER_CONFIG).is_file()


def source_at(place: str) -> Source:
    """Return what stands in a directory of a finished run, of pairs, of a policy or of an export.

    Raises:
        ConfigError: if there is none of them, or it is unfinished or damaged.
    """
    path = Path(place)
    if not path.is_dir():
        meant = nearest_path(path)
        instead = f"Did you mean 'source={meant}'?" if meant else "Give a finished run, pairs, a policy or an export."
        raise ConfigError(f"source={place} is not a directory (in {Path.cwd()}). {instead}")
    artifact = whole(path, place)
    kind = artifact.manifest["kind"]
    if RunDirectory(path).is_run:
        lineage = RunDirectory(path).run()["lineage"]
        pairs = [placed(path, entry) for entry in lineage if entry["kind"] == "pairs"]
        policies = [entry for entry in lineage if entry["kind"] == "policy"]
        return Source(path, tuple(pairs), placed(path, policies[-1]), path)
    if kind == "pairs":
        return Source(path, (artifact,), None, run_of(path, artifact.id))
    if kind in MODELS:
        policy = artifact.id if kind == "policy" else str(artifact.manifest["content"]["source"].get("policy", ""))
        return Source(path, (), artifact, run_of(path, policy))
    raise ConfigError(f"source={place} is an artifact of the kind {kind}. Give a finished run, pairs, a policy or an export.")


def whole(path: Path, place: str) -> Artifact:
    """Return the artifact of a directory; ConfigError if it is unfinished, damaged, or none."""
    if damage := examine(path).damage:
        raise ConfigError(f"source={place}: {path} is damaged ({damage}). Run the command that made it again.")
    made = Artifact.open(path)
    if made is None:
        raise ConfigError(
            f"source={place} has no manifest.json: it is unfinished, or was not made by this project. "
            "Finish the run, or export the model first."
        )
    return made


def placed(run: Path, entry: dict[str, Any]) -> Artifact:
    """Return an artifact of a run's lineage: beside the run, or where it was when the run was made."""
    beside = run.resolve().parents[1] / entry["kind"] / entry["name"]
    for path in (beside, Path(entry["path"])):
        if path.is_dir() and (found := whole(path, str(run))).id == entry["id"]:
            return found
    raise ConfigError(f"source={run}: its {entry['kind']} is not at {beside} any more. Run the training again.")


def run_of(path: Path, identity: str) -> Path | None:
    """Return the newest finished run beside a directory that an artifact belongs to."""
    for run in runs_below(path.resolve().parents[1]):
        lineage = run.read_if_whole(RUN).get("lineage", [])
        if any(entry.get("id") == identity for entry in lineage) and Artifact.open(run.path):
            return run.path
    return None


def ancestor(artifact: Artifact, kind: str, *, needed: bool = True) -> Artifact | None:
    """Return the nearest artifact of a kind that one was made from, looked for beside it.

    Raises:
        ConfigError: if it is needed and not there any more.
    """
    root = artifact.path.resolve().parents[1]
    above = [path for path in ancestors(root, artifact.manifest) if path.parent.name == kind]
    direct = [path for path in above if any(path.name.endswith(parent[:8]) for parent in artifact.manifest["parents"])]
    if found := [*direct, *above]:
        return whole(found[0], str(artifact.path))
    if needed:
        raise ConfigError(
            f"source={artifact.path}: the {kind} that it was made from is not below {root} any more. Make it again."
        )
    return None
