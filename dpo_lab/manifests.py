"""manifest.json: what it has to hold, the digest that covers it, and how it is read without trust."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

MANIFEST = "manifest.json"
DIGEST = "digest"
SHAPE: dict[str, type | tuple[type, ...]] = {
    "kind": str,
    "schema": int,
    "id": str,
    "parents": list,
    "content": dict,
    "facts": dict,
    "files": dict,
    "code": str,
    "seconds": (int, float),
}
"""Keys and types of a manifest; the digest stands beside them, but for manifests of versions that wrote none."""


class ManifestError(Exception):
    """A manifest that is there and cannot be believed; the message says why, without the path."""


def digest_of(plain: Any) -> str:
    """Return the sha256 of plain data, whatever the order of its keys.

    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def id_digest(kind: str, schema: int, content: Mapping[str, Any]) -> str:
    """Return the id of an artifact: a digest of its kind and of all that determines its content."""
    text = json.dumps({"kind": kind, "schema": schema, "content": content}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest as it is read back, with the digest of everything else in it."""
    plain: dict[str, Any] = json.loads(json.dumps(manifest))
    return {**plain, DIGEST: digest_of(plain)}


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """Return the manifest of a directory without its digest, None if there is none.

    One without a digest, of an earlier version, is accepted if its id is that of its content: its facts are not covered.

    Raises:
        ManifestError: if it is not a manifest, or was changed since it was written.
        PermissionError: if it may not be read.
    """
    try:
        manifest = json.loads((directory / MANIFEST).read_bytes().decode())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise
    except OSError as error:
        raise ManifestError(f"{MANIFEST} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{MANIFEST} is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{MANIFEST} is not JSON") from error
    if not isinstance(manifest, dict):
        raise ManifestError(f"{MANIFEST} holds a {type(manifest).__name__} in place of an object")
    _refuse_other_shape(manifest)
    _refuse_changed(manifest)
    return {name: value for name, value in manifest.items() if name != DIGEST}


def _refuse_other_shape(manifest: Mapping[str, Any]) -> None:
    if lacking := [name for name in SHAPE if name not in manifest]:
        raise ManifestError(f"{MANIFEST} lacks {', '.join(lacking)}")
    if unknown := [name for name in manifest if name not in (*SHAPE, DIGEST)]:
        raise ManifestError(f"{MANIFEST} has an unknown key, {unknown[0]!r}")
    for name, kind in SHAPE.items():
        if not isinstance(manifest[name], kind) or isinstance(manifest[name], bool):
            raise ManifestError(f"{MANIFEST} has a {type(manifest[name]).__name__} as {name}")
    if not all(isinstance(parent, str) for parent in manifest["parents"]):
        raise ManifestError(f"{MANIFEST} has parents that are not ids")
    for name, about in manifest["files"].items():
        whole = isinstance(about, dict) and isinstance(about.get("bytes"), int) and isinstance(about.get("sha256"), str)
        place = PurePosixPath(name)
        if not whole or not name or place.is_absolute() or ".." in place.parts or "\0" in name:
            raise ManifestError(f"{MANIFEST} describes the file {name!r} in no known way")


def _refuse_changed(manifest: Mapping[str, Any]) -> None:
    if DIGEST in manifest:
        if digest_of({name: value for name, value in manifest.items() if name != DIGEST}) != manifest[DIGEST]:
            raise ManifestError(f"{MANIFEST} does not match its own digest")
    elif id_digest(manifest["kind"], manifest["schema"], manifest["content"]) != manifest["id"]:
        raise ManifestError(f"{MANIFEST} does not match its own id")
