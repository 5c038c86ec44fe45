"""Artifacts: finished parts on disk, named by what determines their content; `manifest.json` is written last."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from dpo_lab import __version__
from dpo_lab.components import RunError
from dpo_lab.progress import console

SCHEMA = 2  # raise it when the same content would give different files
MANIFEST = "manifest.json"
NAME_LENGTH = 80  # characters of the readable part; file systems take 255 with lock and temporary names around it


def content_id(kind: str, content: Mapping[str, Any]) -> str:
    """Return the id of an artifact: a digest of its kind and of all that determines its content.

    >>> content_id("pairs", {"seed": 0}) == content_id("pairs", {"seed": 0})
    True
    >>> content_id("pairs", {"seed": 0}) == content_id("pairs", {"seed": 1})
    False
    """
    text = json.dumps({"kind": kind, "schema": SCHEMA, "content": content}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


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
        """How long making it took."""
        return float(self.manifest["seconds"])

    @classmethod
    def open(cls, path: Path) -> "Artifact | None":
        """Return the artifact of a directory, or None if it is absent, unfinished, or has lost a file since."""
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
            return None
        sizes = {name: (path / name).stat().st_size for name in manifest["files"] if (path / name).is_file()}
        return cls(path, manifest) if sizes == {name: each["bytes"] for name, each in manifest["files"].items()} else None


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
        return self.root / self.kind / f"{self.name[:NAME_LENGTH]}-{self.id[:8]}"

    def finished(self) -> Artifact | None:
        """Return the artifact if it is already made."""
        found = Artifact.open(self.path)
        if found and found.id != self.id:
            raise RunError(
                f"{self.path} is another artifact whose id begins alike ({found.id}). Move it, or use paths.outputs=DIR."
            )
        return found

    def make(self, produce: Callable[[Path], dict[str, Any]], *, force: bool = False, resume: bool = False) -> Artifact:
        """Return the finished artifact, making it if need be; a lock lets only one process make it.

        Args:
            produce: writes files into the directory it is given and returns facts for the manifest.
            force: make it again even if it is finished.
            resume: `produce` goes on with what a killed process left in the directory, instead of finding it empty.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{self.path.parent} cannot be made ({error.strerror}), and results go there. "
                "Use paths.outputs=DIR with a DIR that can be written."
            ) from error
        lock = FileLock(self.path.parent / f".{self.path.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            console.print(f"  another process is making {self.path}; waiting for it", markup=False)
            lock.acquire()
        try:
            done = self.finished()
            return done if done and not force else self._made(produce, resume=resume and not force)
        finally:
            lock.release()

    def _made(self, produce: Callable[[Path], dict[str, Any]], *, resume: bool) -> Artifact:
        if not resume:
            shutil.rmtree(self.path, ignore_errors=True)  # unfinished: what a killed process left
        self.path.mkdir(exist_ok=True)
        (self.path / MANIFEST).unlink(missing_ok=True)  # of an artifact that has lost a file since
        for half_written in self.path.glob(".*.tmp"):
            half_written.unlink()
        started = time.monotonic()
        try:
            facts = produce(self.path)
        except BaseException:
            if not any(self.path.iterdir()):
                self.path.rmdir()  # it failed before it wrote anything: leave no trace
            raise
        return self._finish(facts, time.monotonic() - started)

    def _finish(self, facts: dict[str, Any], seconds: float) -> Artifact:
        tops = sorted(path for path in self.path.iterdir() if path.name not in self.apart)
        files = [path for top in tops for path in (sorted(top.rglob("*")) if top.is_dir() else [top]) if path.is_file()]
        manifest = {
            "kind": self.kind,
            "schema": SCHEMA,
            "id": self.id,
            "parents": list(self.parents),
            "content": self.content,
            "facts": facts,
            "files": {
                str(path.relative_to(self.path)): {"bytes": path.stat().st_size, "sha256": file_digest(path)} for path in files
            },
            "code": __version__,
            "seconds": round(seconds, 3),
        }
        write_durably(self.path / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
        return Artifact(self.path, manifest, made_now=True)


def file_digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def durable_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write so that a kill leaves the old one or the new one: temp beside it, fsync, rename, fsync."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_durably(path: Path, text: str) -> None:
    """Write a text so that a kill leaves the old one or the new one."""
    with durable_file(path) as file:
        file.write(text.encode())
