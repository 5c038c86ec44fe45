"""Small artifacts for tests of damage, and what damages them."""

import os
from pathlib import Path
from typing import Any

from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.damage import forget


def plan(root: Path, *parents: Artifact, kind: str = "pairs") -> Plan:
    return Plan(root, kind, "films", {"seed": 0, "from": [parent.id for parent in parents]}, [parent.id for parent in parents])


def write_rows(directory: Path) -> dict[str, Any]:
    (directory / "rows.txt").write_text("one\n")
    (directory / "large.bin").write_bytes(bytes(100))
    return {"rows": 1, "accuracy": 0.75}


def flip(path: Path, at: int = 0, *, keep_time: bool = False) -> None:
    """Change one bit in place, and the times too unless asked not to."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    times = (before.st_atime_ns, before.st_mtime_ns + (0 if keep_time else 1))
    os.utime(path, ns=times)


def opened(path: Path) -> bool:
    """Open an artifact as a new process would; return whether it is whole."""
    forget()
    return Artifact.open(path) is not None
