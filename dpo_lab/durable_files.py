"""Files that survive a kill and a power cut, and files that carry a digest of what they hold."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

BLOCK = 1 << 20  # bytes read at a time
SEAL = b"\nsha256 "  # stands behind the content of a sealed file, before 64 hexadecimal digits
SEAL_LENGTH = len(SEAL) + 64


def file_digest(path: Path, advance: Callable[[int], object] = lambda count: None) -> str:
    """Return the sha256 of a file; `advance` hears the number of bytes of each block."""
    return _digest_and_tail(path, 0, advance)[0]


def flush_to_disk(path: Path) -> None:
    """Return when the content of a file is on the disk, so that what is written later never outlives it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def durable_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write so that a kill leaves the old one or the new one: temp beside it, fsync, rename, fsync."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except Exception:
        temporary.unlink(missing_ok=True)  # a full disk has no room for half a file
        raise
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


# ---------------------------------------------------------------- sealed files
class Sealing:
    """A file to write that computes the digest of what passes."""

    def __init__(self, file: BinaryIO) -> None:
        self.digest = hashlib.sha256()
        self._file = file

    def write(self, data: Any) -> int:
        """Write bytes; return how many."""
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Pass on what is buffered."""
        self._file.flush()


@contextmanager
def sealed_file(path: Path) -> Iterator[Any]:
    """Give a file to write, durable, whose digest is put behind its content: zip and torch readers ignore what stands there."""
    with durable_file(path) as file:
        sealing = Sealing(file)
        yield sealing
        file.write(SEAL + sealing.digest.hexdigest().encode())


def seal_holds(path: Path, advance: Callable[[int], object] = lambda count: None) -> bool:
    """Return whether a sealed file holds what was written: False if a bit changed, it was cut, or it was never sealed."""
    digest, tail = _digest_and_tail(path, SEAL_LENGTH, advance)
    return tail == SEAL + digest.encode()


def read_sealed(path: Path) -> bytes | None:
    """Return the content of a small sealed file, None if it is damaged."""
    data = path.read_bytes()
    content, tail = data[:-SEAL_LENGTH], data[-SEAL_LENGTH:]
    return content if tail == SEAL + hashlib.sha256(content).hexdigest().encode() else None


def _digest_and_tail(path: Path, tail: int, advance: Callable[[int], object]) -> tuple[str, bytes]:
    """Return the sha256 of a file without its last bytes, and these."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(BLOCK))
    with path.open("rb", buffering=0) as file:
        left = max(0, os.fstat(file.fileno()).st_size - tail) if tail else None
        while left != 0 and (count := file.readinto(buffer if left is None else buffer[: min(BLOCK, left)])):
            digest.update(buffer[:count])
            advance(count)
            left = None if left is None else left - count
        return digest.hexdigest(), file.read(tail) if tail else b""
