"""Whether an artifact is still what was written: its manifest, and its files compared with the manifest's sha256.

Small files are compared whenever an artifact is opened. Large ones are compared when size, time of modification or inode are
not those that `checked.json` beside the manifest recorded when they were last known to be whole.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lab.components import RunError
from dpo_lab.durable_files import file_digest, write_durably
from dpo_lab.manifests import MANIFEST, ManifestError, digest_of, read_manifest
from dpo_lab.progress import part

ALWAYS = 64 << 20  # bytes of an artifact that are compared on every open, smallest files first
RECORD = "checked.json"
SUSPECT = "suspect.json"
"""Stands in an artifact that was made from one that turned out to be damaged: it is not used, and made again."""
BEGUN = "begun.json"
"""Stands in an unfinished artifact: the ids of those that it is made from."""
BESIDE = (MANIFEST, RECORD, SUSPECT, BEGUN)
"""Files in an artifact's directory that do not belong to it."""
NAMED = 3  # damaged files that a message names
State = tuple[int, int, int]

_known: dict[str, tuple[str, dict[str, State]]] = {}
"""By directory: the manifest and the states of the files that this process has found to match it."""


@dataclass(frozen=True)
class Examined:
    """What an artifact's directory turned out to be: whole, damaged, or (neither) absent or unfinished."""

    manifest: dict[str, Any] | None
    """Of a whole artifact."""
    damage: str = ""
    """What is wrong with it."""


def examine(directory: Path, *, thorough: bool = False) -> Examined:
    """Return what a directory is; `thorough` compares every file, whatever is known of it.

    Raises:
        RunError: if its files may not be read.
    """
    try:
        manifest = read_manifest(directory)
        if manifest is None:
            return Examined(None)
        damage = made_from_damaged(directory) or _damage_of_files(directory, manifest, thorough=thorough)
    except ManifestError as error:
        damage, manifest = str(error), None
    except PermissionError as error:
        raise RunError(f"{error.filename} cannot be read ({error.strerror}). Change its permissions.") from error
    if damage:
        _known.pop(str(directory.absolute()), None)
        with suppress(OSError):
            (directory / RECORD).unlink(missing_ok=True)  # large files too are compared the next time
        return Examined(None, damage)
    return Examined(manifest)


def _damage_of_files(directory: Path, manifest: Mapping[str, Any], *, thorough: bool) -> str:
    """Return what is wrong with the files of an artifact, or an empty text; remember and record what is not."""
    files: dict[str, dict[str, Any]] = manifest["files"]
    states, wrong = {}, list[str]()
    for name, about in files.items():
        state = state_of(directory / name)
        if state is None:
            wrong.append(f"{name} is missing")
        elif state[0] != about["bytes"]:
            wrong.append(f"{name} has {state[0]} bytes in place of {about['bytes']}")
        else:
            states[name] = state
    if wrong:
        return listed(wrong)
    place, version = str(directory.absolute()), digest_of(manifest)
    if not thorough and _known.get(place) == (version, states):
        return ""
    large = large_files(files)
    recorded = {} if thorough or not large else read_record(directory, version)
    compared = [name for name in files if name not in large or recorded.get(name) != states[name]]
    for name in _unlike(directory, files, compared):
        wrong.append(f"{name} does not match its sha256")
    if wrong:
        return listed(wrong)
    _known[place] = (version, states)
    if large and recorded != {name: states[name] for name in large}:
        write_record(directory, version, {name: states[name] for name in large})
    return ""


def _unlike(directory: Path, files: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> list[str]:
    """Return the files that do not match their sha256, with progress if there is much to read."""
    names = list(names)
    total = sum(files[name]["bytes"] for name in names)

    def unlike(advance: Any) -> list[str]:
        return [name for name in names if _digest(directory / name, advance) != files[name]["sha256"]]

    with mebibytes(f"checking {directory.name}" if total > ALWAYS else "", total) as advance:
        return unlike(advance)


@contextmanager
def mebibytes(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Give what hears of bytes that were read, and show them as a part; nothing is shown of one without a name."""
    if not name:
        yield lambda count: None
        return
    with part(f"{name}, MiB", total >> 20) as shown:
        seen = 0

        def advance(count: int) -> None:
            nonlocal seen
            before, seen = seen, seen + count
            shown.advance((seen >> 20) - (before >> 20))

        yield advance


def _digest(path: Path, advance: Any) -> str:
    try:
        return file_digest(path, advance)
    except PermissionError:
        raise
    except OSError:  # a sector of the disk that cannot be read
        return ""


def state_of(path: Path) -> State | None:
    """Return size, time of modification and inode of a file, None if there is none."""
    try:
        found = path.stat()
    except PermissionError:
        raise
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns, found.st_ino) if path.is_file() else None


def large_files(files: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the files that are not compared on every open: all but the smallest, as far as 64 MiB go.

    >>> large_files({"a": {"bytes": 10}, "b": {"bytes": 40 << 20}, "c": {"bytes": 50 << 20}})
    {'c'}
    """
    total, large = 0, set()
    for name, about in sorted(files.items(), key=lambda each: (each[1]["bytes"], each[0])):
        total += about["bytes"]
        if total > ALWAYS:
            large.add(name)
    return large


# ---------------------------------------------------------------- the record of large files
def read_record(directory: Path, version: str) -> dict[str, State]:
    """Return the recorded states of large files, empty if there is no record for this manifest."""
    try:
        found = json.loads((directory / RECORD).read_bytes())
        if found["manifest"] != version:
            return {}
        return {str(name): (int(size), int(time), int(inode)) for name, (size, time, inode) in found["files"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}  # none, or damaged: the files are compared


def write_record(directory: Path, version: str, states: Mapping[str, State]) -> None:
    """Record the states of large files that match the manifest; a disk that cannot be written is left as it is."""
    with suppress(OSError):
        write_durably(directory / RECORD, json.dumps({"manifest": version, "files": states}, indent=1) + "\n")


# ---------------------------------------------------------------- what was made from a damaged artifact
def made_from_damaged(directory: Path) -> str:
    """Return that an artifact was made from a damaged one, or an empty text."""
    path = directory / SUSPECT
    if not path.exists():
        return ""
    try:
        source = str(json.loads(path.read_bytes())["made_from"])
    except (OSError, ValueError, TypeError, KeyError):
        source = "an artifact"
    return f"it was made from {source}, which was damaged"


def suspect(directory: Path, identity: str, roots: Iterable[Path]) -> list[Path]:
    """Mark all that was made from a damaged artifact, directly or not, so that it is made again; return it.

    An unfinished artifact that was begun from one is marked too: it starts over.

    Args:
        directory: where the damaged artifact stands.
        identity: its id.
        roots: outputs directories that may hold what was made from it; those with their own copy are left alone.
    """
    own, place = directory.absolute().parents[1], Path(directory.parent.name, directory.name)
    places = [own, *(root for root in roots if root != own and not (root / place).exists())]
    manifests: dict[Path, dict[str, Any]] = {}
    for path in {each.resolve() for root in places for each in root.glob(f"*/*/{MANIFEST}")}:
        with suppress(ManifestError, OSError):
            if manifest := read_manifest(path.parent):
                manifests[path.parent] = manifest
    for path in {each.resolve() for root in places for each in root.glob(f"*/*/{BEGUN}")}:
        if path.parent not in manifests:
            manifests[path.parent] = {"id": "", "parents": begun_from(path.parent)}
    suspects = descendants(manifests, [identity])
    for path in suspects:
        write_durably(path / SUSPECT, json.dumps({"made_from": str(directory)}) + "\n")
    return suspects


def begun_from(directory: Path) -> list[str]:
    """Return the ids of the artifacts that an unfinished one is made from; none where they were not recorded."""
    try:
        return [str(identity) for identity in json.loads((directory / BEGUN).read_bytes())["parents"]]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def descendants(manifests: Mapping[Path, Mapping[str, Any]], ids: Iterable[str]) -> list[Path]:
    """Return the artifacts that were made from any of some ids, directly or not."""
    sources, made = set(ids), dict[Path, None]()
    while new := [path for path, manifest in manifests.items() if path not in made and sources.intersection(manifest["parents"])]:
        made |= dict.fromkeys(new)
        sources |= {str(manifests[path]["id"]) for path in new}
    return sorted(made)


def ancestors(root: Path, manifest: Mapping[str, Any]) -> dict[Path, str]:
    """Return where the artifacts stand that one was made from, directly or not, with their ids; some may be gone.

    One whose manifest cannot be read stands under the id that its name begins with.
    """
    places: dict[str, list[Path]] = {}
    for path in root.glob("*/*"):
        places.setdefault(path.name.rpartition("-")[2], []).append(path)
    paths: dict[Path, str] = {}
    waiting, seen = list(manifest["parents"]), set(manifest["parents"])
    while waiting:
        identity = waiting.pop()
        for path in places.get(identity[:8], ()):
            try:
                above = read_manifest(path)
            except (ManifestError, OSError):
                paths[path] = identity
                continue
            if above and above["id"] == identity:
                paths[path] = identity
                waiting += [parent for parent in above["parents"] if parent not in seen]
                seen.update(above["parents"])
    return paths


def listed(texts: list[str]) -> str:
    """Return texts as one, three of them where there are many."""
    more = f", and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return ", ".join(texts[:NAMED]) + more


def forget() -> None:
    """Forget what this process has compared; a new process knows nothing."""
    _known.clear()
