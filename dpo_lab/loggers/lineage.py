"""The parts that a run was made from and that it made, as loggers are told of them: by their digests, never by what they say."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MADE = ("policy", "evaluation")
"""Kinds of artifacts that a run makes; those of all other kinds it starts from, and shares them with other runs."""
DATA = "data"
"""Kind of the pairs themselves, which stand in a run's directory only as the digest of a token store's pairs."""
NAME_LENGTH = 128


@dataclass(frozen=True, kw_only=True)
class Part:
    """An artifact of a run."""

    kind: str
    name: str
    """Without its id; letters, digits, `_ . -`."""
    id: str
    parents: tuple[str, ...] = ()
    path: Path | None = None
    """Where its files were when the run was made; None of one without files."""

    @property
    def made(self) -> bool:
        """Whether the run made it, rather than started from it."""
        return self.kind in MADE

    def record(self) -> dict[str, Any]:
        """Return what is said of it: equal in all runs that share it."""
        return {"kind": self.kind, "name": self.name, "id": self.id, "parents": list(self.parents)}


def parts_of(lineage: Sequence[Mapping[str, Any]]) -> list[Part]:
    """Return the parts that run.json names, pairs before the token store that was made from them.

    >>> store = {"kind": "tokens", "name": "hh-1-00c0ffee", "id": "00c0ffee", "parents": [], "path": "", "data": "ab"}
    >>> [(part.kind, part.name) for part in parts_of([store])]
    [('data', 'hh-1'), ('tokens', 'hh-1')]
    """
    parts = []
    for entry in lineage:
        name, parents = name_of(entry["name"], entry["id"]), tuple(entry["parents"])
        if data := entry.get(DATA):
            parts.append(Part(kind=DATA, name=name, id=data))
            parents = (*parents, data)
        parts.append(Part(kind=entry["kind"], name=name, id=entry["id"], parents=parents, path=Path(entry["path"])))
    return parts


def name_of(directory: str, content_id: str) -> str:
    """Return the name of an artifact's directory without the id at its end.

    >>> name_of("tiny-hh-round1-3f9c2a10", "3f9c2a10" * 8), name_of("a b/c", "3f9c2a10" * 8)
    ('tiny-hh-round1', 'a-b-c')
    """
    return re.sub(r"[^\w.-]", "-", directory.removesuffix(f"-{content_id[:8]}"), flags=re.ASCII)[:NAME_LENGTH]
