"""What stands below an outputs directory, how much room it takes, and what can go without taking a parent from what stays."""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lab.damage import BEGUN
from dpo_lab.manifests import MANIFEST, ManifestError, read_manifest
from dpo_lab.run_directory import CALL, CONFIG, KIND

HELD = ("quant", "adapter", "dtype", "checkpointing")
"""Fields of a model that do not determine its base."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An artifact on disk, finished or not."""

    path: Path
    id: str
    """The content id; empty of one that is unfinished or cannot be read."""
    parents: tuple[str, ...]
    """Ids of the artifacts that it is made from."""
    bytes: int
    written: float
    """When it was finished, or last written to: seconds since 1970."""
    finished: bool

    @property
    def kind(self) -> str:
        """The directory that it stands in: train, policy, tokens, ..."""
        return self.path.parent.name

    @property
    def is_run(self) -> bool:
        """Return whether it is a run of train."""
        return self.kind == KIND


def kept_below(outputs: Path) -> list[Kept]:
    """Return the artifacts of an outputs directory, by kind and name."""
    places = sorted(path for path in outputs.glob("*/*") if (path / MANIFEST).is_file() or (path / BEGUN).is_file())
    return [_kept(path) for path in places if not path.is_symlink()]


def _kept(path: Path) -> Kept:
    try:
        manifest = read_manifest(path)
    except (ManifestError, PermissionError):
        manifest = None
    files = [Path(place) / name for place, _, names in os.walk(path) for name in names]
    states = [file.lstat() for file in files]
    written = (path / MANIFEST).stat().st_mtime if manifest else max((state.st_mtime for state in states), default=0.0)
    parents = manifest["parents"] if manifest else _begun_from(path)
    return Kept(
        path=path,
        id=str(manifest["id"]) if manifest else "",
        parents=tuple(map(str, parents)),
        bytes=sum(state.st_size for state in states),
        written=written,
        finished=manifest is not None,
    )


def _begun_from(path: Path) -> list[str]:
    try:
        return list(json.loads((path / BEGUN).read_text(encoding="utf-8"))["parents"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def ancestry_of(each: Kept, by_id: Mapping[str, Kept]) -> set[Path]:
    """Return where the artifacts stand that one is made from, directly or not."""
    found: set[Path] = set()
    waiting = list(each.parents)
    while waiting:
        parent = by_id.get(waiting.pop())
        if parent and parent.path not in found:
            found.add(parent.path)
            waiting += parent.parents
    return found


def own_bytes(kept: Sequence[Kept]) -> dict[Path, int]:
    """Return the room that each run takes alone: its directory and the parts that no other run is made from."""
    by_id = {artifact.id: artifact for artifact in kept if artifact.id}
    made_from = {run.path: ancestry_of(run, by_id) for run in kept if run.is_run}
    users: dict[Path, int] = {}
    for parts in made_from.values():
        for part in parts:
            users[part] = users.get(part, 0) + 1
    size = {artifact.path: artifact.bytes for artifact in kept}
    return {run: size[run] + sum(size[part] for part in parts if users[part] == 1) for run, parts in made_from.items()}


@dataclass(frozen=True)
class Removal:
    """What can go."""

    gone: tuple[Kept, ...]
    """The runs, then the parts that only they are made from."""
    needed: Mapping[Path, Path]
    """Runs that were chosen and stay, each with something that stays and is made from it."""
    awaited: Mapping[Path, Path]
    """Parts of runs that go, which stay because an unfinished run that stays may read them next, each with that run."""

    @property
    def bytes(self) -> int:
        """The room that it takes."""
        return sum(artifact.bytes for artifact in self.gone)


def removal(kept: Sequence[Kept], chosen: Collection[Path]) -> Removal:
    """Return what can go if some runs may go: these runs and what only they are made from; a parent of what stays, stays.

    Args:
        kept: everything below the outputs directory.
        chosen: the directories of the runs.
    """
    by_id = {artifact.id: artifact for artifact in kept if artifact.id}
    candidates = {artifact.path for artifact in kept if artifact.path in chosen}
    parts_of = {artifact.path: ancestry_of(artifact, by_id) for artifact in kept if artifact.path in chosen}
    awaited = _awaited([artifact for artifact in kept if artifact.is_run and artifact.path not in chosen], parts_of)
    candidates |= set().union(*parts_of.values()) - set(awaited)
    children: dict[Path, list[Path]] = {}
    for artifact in kept:
        for parent in artifact.parents:
            if parent in by_id:
                children.setdefault(by_id[parent].path, []).append(artifact.path)
    needed: dict[Path, Path] = {}
    while held := {path: child for path in candidates for child in children.get(path, ()) if child not in candidates}:
        needed |= held
        candidates -= set(held)
    gone = sorted((artifact for artifact in kept if artifact.path in candidates), key=lambda each: (not each.is_run, each.path))
    return Removal(tuple(gone), {path: child for path, child in needed.items() if path in chosen}, awaited)


def _awaited(staying: Sequence[Kept], parts_of: Mapping[Path, Collection[Path]]) -> dict[Path, Path]:
    """Return the parts of runs that an unfinished run may read next, each with that run.

    Nothing says which parts those are before it reads them. A trained ranker depends on neither base model nor data, so any
    unfinished run may read it; every other part depends on one of them, and stays where a run that goes shares one.

    Args:
        parts_of: the runs that may go, with the parts that each is made from.
    """
    found: dict[Path, Path] = {}
    for unfinished in (run.path for run in staying if not run.finished):
        own = _sources(unfinished)
        for run, parts in parts_of.items():
            shares = not own or not (other := _sources(run)) or own & other
            found |= {part: unfinished for part in parts if shares or part.parent.name == "ranker"}
    return found


def _sources(run: Path) -> set[str]:
    """Return texts that are the base model and the data of a run's configuration; none if that cannot be read.

    A path is the same however it is written: from the run's working directory, absolute, or through a link.
    """
    try:
        config = json.loads((run / CONFIG).read_text(encoding="utf-8"))
        start = _began_in(run)
        base = {name: value for name, value in config["model"].items() if name not in HELD}
        return {json.dumps(_resolved(part, start), sort_keys=True) for part in (base, config["data"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def _began_in(run: Path) -> Path:
    """Return the working directory that a run has recorded; this one's if it has none."""
    call = run / CALL
    return Path(json.loads(call.read_text(encoding="utf-8"))["cwd"]) if call.is_file() else Path()


def _resolved(value: Any, start: Path) -> Any:
    """Return plain data with each text that names a file or directory, or is an absolute path, as the resolved path."""
    if isinstance(value, dict):
        return {name: _resolved(each, start) for name, each in value.items()}
    if isinstance(value, list):
        return [_resolved(each, start) for each in value]
    if not isinstance(value, str) or not value:
        return value
    path = start / value
    is_path = "\0" not in value and (Path(value).is_absolute() or os.path.exists(path))
    return str(path.resolve()) if is_path else value
