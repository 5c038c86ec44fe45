"""Artifacts: finished parts on disk, named by what determines their content; `manifest.json` is written last."""

import json
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dpo_lab import __version__
from dpo_lab.components import RunError
from dpo_lab.continuing import seconds_kept
from dpo_lab.damage import BEGUN, BESIDE, SUSPECT, Examined, ancestors, examine, large_files, state_of, suspect, write_record
from dpo_lab.durable_files import durable_file, file_digest, flush_to_disk, write_durably
from dpo_lab.manifests import MANIFEST, digest_of, id_digest, sealed
from dpo_lab.own_files import make_own_below
from dpo_lab.progress import say

__all__ = ["MANIFEST", "Artifact", "Plan", "content_id", "durable_file", "file_digest", "write_durably"]

SCHEMA = 3  # raise it when the same content would give different files; the manifest's own shape is in manifests.py
NAME_LENGTH = 80  # characters of the readable part; file systems take 255 with lock and temporary names around it


def content_id(kind: str, content: Mapping[str, Any]) -> str:
    """Return the id of an artifact: a digest of its kind and of all that determines its content.

    >>> content_id("pairs", {"seed": 0}) == content_id("pairs", {"seed": 0})
    True
    >>> content_id("pairs", {"seed": 0}) == content_id("pairs", {"seed": 1})
    False
    """
    return id_digest(kind, SCHEMA, content)


_used: ContextVar[set[str] | None] = ContextVar("_used", default=None)
"""Ids of the artifacts that have been opened while one is made: it is made from them."""
_mended: set[str] = set()
"""Ids of the artifacts that this process found damaged."""
_roots: dict[Path, None] = {}
"""Outputs directories that this process has looked into."""


@dataclass(frozen=True)
class Artifact:
    """A finished directory."""

    path: Path
    manifest: dict[str, Any]
    made_now: bool = False
    """Whether this call made it; False if it was found."""

    @property
    def id(self) -> str:
        """The full content id."""
        return str(self.manifest["id"])

    @property
    def facts(self) -> dict[str, Any]:
        """What its maker recorded: counts, figures."""
        return dict(self.manifest["facts"])

    @property
    def seconds(self) -> float:
        """How long making it took, the parts that an earlier process made and kept among it."""
        return float(self.manifest["seconds"])

    @classmethod
    def open(cls, path: Path) -> "Artifact | None":
        """Return the artifact of a directory, or None if it is absent, unfinished or damaged."""
        manifest = examine(path).manifest
        return cls(path, manifest).noted() if manifest else None

    def noted(self) -> "Artifact":
        """Return the artifact, which whatever is being made now is made from."""
        if (used := _used.get()) is not None:
            used.add(self.id)
        return self


def plain(name: str) -> str:
    """Return a name without characters that a shell or a command line gives a meaning.

    >>> plain("tiny-my pairs, [v2]"), plain("café.v1+a_b-c")
    ('tiny-my_pairs_v2_', 'café.v1+a_b-c')
    """
    return re.sub(r"[^\w.+-]+", "_", name)


def refuse_damage(path: Path) -> None:
    """Raise RunError if a directory holds a damaged artifact; one that is whole, or none of this project, is left alone."""
    found = examine(path)
    if found.damage:
        raise RunError(f"{path} is damaged: {found.damage}. Run the same command again to make it again.")
    if found.manifest:
        Artifact(path, found.manifest).noted()


@dataclass(frozen=True)
class Plan:
    """An artifact that may or may not exist yet: where it goes and what determines it."""

    root: Path
    """The outputs directory."""
    kind: str
    """The directory below it: model, pairs, tokens, reference, policy, evaluation, train."""
    name: str
    """Readable part of the directory's name."""
    content: dict[str, Any]
    """All that determines the result, as plain data."""
    parents: Sequence[str] = ()
    """Ids of the artifacts it is made from; they belong to `content` too where they matter."""
    apart: Sequence[str] = ()
    """Files and directories at its top that may change when it is finished; the manifest does not list them."""

    @property
    def id(self) -> str:
        """The content id."""
        return content_id(self.kind, self.content)

    @property
    def path(self) -> Path:
        """Where the artifact stands: <root>/<kind>/<name>-<first 8 of id>."""
        return self.root / self.kind / f"{plain(self.name)[:NAME_LENGTH]}-{self.id[:8]}"

    def finished(self, *, with_parents: bool = False) -> Artifact | None:
        """Return the artifact if it is already made and whole.

        Args:
            with_parents: look at what it is made from too, as far as it is still there; if some of it is damaged, this artifact
                is not used.
        """
        _roots[self.root.absolute()] = None
        done = self._checked(examine(self.path))
        return None if done and with_parents and self._parents_are_damaged(done) else done

    def _checked(self, found: Examined) -> Artifact | None:
        if found.manifest is None:
            return None
        done = Artifact(self.path, found.manifest)
        if done.id != self.id:
            raise RunError(
                f"{self.path} is another artifact whose id begins alike ({done.id}). Move it, or use paths.outputs=DIR."
            )
        return done.noted()

    def _parents_are_damaged(self, done: Artifact) -> bool:
        damaged = [item for item in ancestors(self.root, done.manifest).items() if examine(item[0]).damage]
        still = [path for path, identity in damaged if _is_still_damaged(path, identity)]  # each marks what was made from it
        return bool(still)

    def make(self, produce: Callable[[Path], dict[str, Any]], *, force: bool = False, resume: bool = False) -> Artifact:
        """Return the finished artifact, making it if need be; a lock lets only one process make it.

        Args:
            produce: writes files into the directory it is given and returns facts for the manifest.
            force: make it again even if it is finished.
            resume: `produce` resumes from what a killed process left in the directory, instead of finding it empty.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{self.path.parent} cannot be made ({error.strerror}), and results go there. "
                "Use paths.outputs=DIR with a DIR that can be written."
            ) from error
        lock = FileLock(self.path.parent / f".{self.path.name}.lock")
        if not _acquired(lock, self.path):
            say(f"  another process is making {self.path}; waiting for it")
            lock.acquire()
        _roots[self.root.absolute()] = None
        try:
            examined = examine(self.path)
            if examined.damage:
                self._tell_of(examined.damage)
            done = self._checked(examined)
            if done and not force:
                return done
            resume = resume and not force and _mended.isdisjoint((self.id, *self.parents))
            resume = resume and not (self.path / SUSPECT).exists()  # begun from what another process found damaged
            return self._made(produce, resume=resume)
        finally:
            lock.release()

    def _tell_of(self, damage: str) -> None:
        """Say that the artifact is damaged and made again, after marking what was made from it."""
        made = suspect(self.path, self.id, _roots)
        _mended.add(self.id)
        others = f", and so is what was made from it ({len(made)} artifact{'s' if len(made) > 1 else ''})" if made else ""
        say(f"  {self.path} is damaged: {damage}. It is made again{others}.")

    def _made(self, produce: Callable[[Path], dict[str, Any]], *, resume: bool) -> Artifact:
        if not resume:
            _clear(self.path)  # what a killed process left, or what is damaged
        self.path.mkdir(exist_ok=True)
        for name in BESIDE:
            (self.path / name).unlink(missing_ok=True)
        for half_written in self.path.glob(".*.tmp"):
            half_written.unlink()
        make_own_below(self.path)
        write_durably(self.path / BEGUN, json.dumps({"parents": list(self.parents)}) + "\n")
        started = time.monotonic() - seconds_kept(self.path)
        used: set[str] = set()
        token = _used.set(used)
        try:
            facts = produce(self.path)
        except BaseException:
            if {path.name for path in self.path.iterdir()} <= {BEGUN}:
                _clear(self.path)
                self.path.rmdir()  # it failed before it wrote anything: leave no trace
            raise
        finally:
            _used.reset(token)
        return self._finish(facts, time.monotonic() - started, used).noted()

    def _finish(self, facts: dict[str, Any], seconds: float, used: set[str]) -> Artifact:
        (self.path / BEGUN).unlink(missing_ok=True)
        tops = sorted(path for path in self.path.iterdir() if path.name not in (*self.apart, *BESIDE))
        files = [path for top in tops for path in (sorted(top.rglob("*")) if top.is_dir() else [top]) if path.is_file()]
        for path in files:
            flush_to_disk(path)  # else a power cut may keep the manifest and lose what it lists
        manifest: dict[str, Any] = {
            "kind": self.kind,
            "schema": SCHEMA,
            "id": self.id,
            "parents": [*self.parents, *sorted(used.difference(self.parents))],
            "content": self.content,
            "facts": facts,
            "files": {
                str(path.relative_to(self.path)): {"bytes": path.stat().st_size, "sha256": file_digest(path)} for path in files
            },
            "code": __version__,
            "seconds": round(seconds, 3),
        }
        covered = sealed(manifest)
        write_durably(self.path / MANIFEST, json.dumps(covered, indent=1, ensure_ascii=False) + "\n")
        manifest = {name: covered[name] for name in manifest}
        states = {name: state_of(self.path / name) for name in large_files(manifest["files"])}
        if states:
            write_record(self.path, digest_of(manifest), {name: state for name, state in states.items() if state})
        return Artifact(self.path, manifest, made_now=True)


def _clear(directory: Path) -> None:
    """Remove what stands in a directory, through a link to a directory elsewhere too."""
    for path in list(directory.iterdir()) if directory.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _acquired(lock: FileLock, path: Path) -> bool:
    """Return whether the lock of an artifact is free, and taken now.

    Raises:
        RunError: if the artifact is damaged, and nothing can be written where it stands.
    """
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except OSError as error:
        if damage := examine(path).damage:
            raise RunError(
                f"{path} is damaged: {damage}. It cannot be made again: {path.parent} cannot be written ({error.strerror}). "
                "Use paths.outputs=DIR with a DIR that can be written."
            ) from error
        raise
    return True


def is_being_made(path: Path) -> bool:
    """Return whether some process is making an artifact just now."""
    place = path.parent / f".{path.name}.lock"
    lock = FileLock(place)
    try:
        if free := not place.exists() or bool(lock.acquire(timeout=0)):
            lock.release()
        return not free
    except (Timeout, OSError):
        return True


def _is_still_damaged(path: Path, identity: str) -> bool:
    """Return whether an artifact is damaged, and not being made by another process; mark what was made from it."""
    lock = FileLock(path.parent / f".{path.name}.lock")
    if not _acquired(lock, path):
        return False
    try:
        if damaged := bool(examine(path).damage):
            suspect(path, identity, _roots)
        return damaged
    finally:
        lock.release()
