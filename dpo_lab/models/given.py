"""What a given model's directory holds: a digest of each file, computed again only where a file may be another one.

Nobody wrote down what such files should be, so their digests are the model's identity. Small files are read by every process;
a large one is known by what `given.json` in the outputs directory recorded of it, as long as its size, times and inode stay.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from dpo_lab.components import RunError
from dpo_lab.damage import ALWAYS, BESIDE, large_files, mebibytes
from dpo_lab.durable_files import file_digest, write_durably

RECORD = "given.json"
NEVER_READ = (".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".h5", ".msgpack", ".ot", ".npz")
"""Ends of names of weights in formats that are not read here."""
CONSOLIDATED = "consolidated"
"""Beginning of names of the same weights once more, in the layout of another program."""
State = tuple[int, int, int, int, int]

_outputs: ContextVar[Path | None] = ContextVar("_outputs", default=None)
_known: dict[str, tuple[State, str]] = {}
"""State and digest of each file that this process has read, by its path."""


@contextmanager
def recorded_below(outputs: Path) -> Iterator[None]:
    """Let digests of large files be looked up and recorded in an outputs directory for the block."""
    token = _outputs.set(outputs)
    try:
        yield
    finally:
        _outputs.reset(token)


def digests_of(directory: Path) -> dict[str, str]:
    """Return the sha256 of every file of a model's directory that may be read, by name; none where there is no directory.

    Raises:
        RunError: if a file may not be read.
    """
    paths = sorted(path for path in directory.glob("*") if path.is_file()) if directory.is_dir() else []
    files = {path.name: path for path in paths if _is_read(path.name)}
    try:
        return _digests(directory.resolve(), files)
    except PermissionError as error:
        raise RunError(f"{error.filename} cannot be read ({error.strerror}). Change its permissions.") from error


def _is_read(name: str) -> bool:
    return name not in BESIDE and not name.endswith(NEVER_READ) and not name.startswith(CONSOLIDATED)


def _digests(directory: Path, files: Mapping[str, Path]) -> dict[str, str]:
    states = {name: _state_of(path) for name, path in files.items()}
    large = large_files({name: {"bytes": state[0]} for name, state in states.items()})
    recorded = _recorded() if large else {}
    for name, state in states.items():
        place = str(directory / name)
        if name in large and place not in _known and place in recorded:
            _known[place] = recorded[place]
        if place in _known and _known[place][0] != state:
            del _known[place]
    unknown = [name for name in files if str(directory / name) not in _known]
    total = sum(states[name][0] for name in unknown)
    with mebibytes(f"reading {directory.name}" if total > ALWAYS else "", total) as advance:
        for name in unknown:
            _known[str(directory / name)] = (states[name], file_digest(files[name], advance))
    if read := {str(directory / name): _known[str(directory / name)] for name in unknown if name in large}:
        _record(read)
    return {name: _known[str(directory / name)][1] for name in files}


def _state_of(path: Path) -> State:
    """Return what changes with a file: size, time of its content and of its entry, inode, device.

    A program can set the time of the content, which a copy keeps; the time of the entry is the system's.
    """
    found = path.stat()
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)


def _recorded() -> dict[str, tuple[State, str]]:
    """Return what is recorded of large files; nothing where there is no record, or a damaged one."""
    outputs = _outputs.get()
    if outputs is None:
        return {}
    try:
        found: dict[str, Any] = json.loads((outputs / RECORD).read_bytes())
        return {
            str(path): ((int(a), int(b), int(c), int(d), int(e)), str(digest))
            for path, ((a, b, c, d, e), digest) in found.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _record(read: Mapping[str, tuple[State, str]]) -> None:
    """Record digests of large files; a disk that cannot be written is left as it is."""
    outputs = _outputs.get()
    if outputs is None:
        return
    with suppress(OSError):
        outputs.mkdir(parents=True, exist_ok=True)
        write_durably(outputs / RECORD, json.dumps({**_recorded(), **read}, indent=1) + "\n")


def forget() -> None:
    """Forget what this process has read; a new process knows nothing."""
    _known.clear()
