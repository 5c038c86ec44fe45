"""What the runs of a comparison share: parts that were made once and used by several, and the time that this saved."""

from collections.abc import Sequence
from dataclasses import dataclass

from dpo_lab.comparison.runs import Run


@dataclass(frozen=True, kw_only=True)
class SharedPart:
    """An artifact that several runs are made from."""

    kind: str
    name: str
    runs: int
    seconds: float
    """Of making it, once."""

    @property
    def saved(self) -> float:
        """The seconds that the other runs did not spend on it."""
        return (self.runs - 1) * self.seconds


def shared_parts(runs: Sequence[Run]) -> list[SharedPart]:
    """Return the artifacts that more than one run is made from, what saved most first."""
    users: dict[str, set[str]] = {}
    about: dict[str, tuple[str, str, float]] = {}
    for run in runs:
        for entry in run.record.run.get("lineage") or ():
            users.setdefault(entry["id"], set()).add(str(run.directory or run.name))
            about[entry["id"]] = (str(entry["kind"]), str(entry["name"]), float(entry.get("seconds") or 0.0))
    found = [
        SharedPart(kind=kind, name=name, runs=len(users[identity]), seconds=seconds)
        for identity, (kind, name, seconds) in about.items()
        if len(users[identity]) > 1
    ]
    return sorted(found, key=lambda part: -part.saved)
