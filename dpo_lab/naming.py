"""The directory of a run: readable words of what was asked for in its name, found by its id whatever those words are."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from dpo_lab.artifacts import NAME_LENGTH, Plan
from dpo_lab.manifests import MANIFEST
from dpo_lab.run_directory import RUN


def as_named(plan: Plan, words: Sequence[str] = ()) -> Plan:
    """Return a plan under the name that its directory has on disk; where there is none, with these words in its name.

    A run that was made by a sweep and the same run alone have one id, and so one directory, whoever came first. A directory
    counts if its name is the plain one, or begins with it: whatever else ends with the id is a copy that a user made.

    Args:
        words: the most important ones first; the name has as many whole ones as there is room for, the seed last.
    """
    end = f"-{plan.id[:8]}"
    plain = plan.path.name.removesuffix(end)
    found = [path for path in plan.path.parent.glob(f"[!.]*{end}") if path.is_dir()]
    names = {path.name.removesuffix(end): path for path in found}
    own = [name for name in names if name == plain or name.startswith(f"{plain}-")]
    places = [name for name in own if replace(plan, name=name).path == names[name]]
    if places:
        return replace(plan, name=min(places, key=lambda name: (*_doubts(names[name]), name != plain, name)))
    told: list[str] = []
    for word in words:
        if len("-".join([plain, *told, word])) <= NAME_LENGTH:
            told.append(word)
    return replace(plan, name="-".join([plain, *sorted(told, key=lambda word: word.startswith("seed"))])) if told else plan


def _doubts(path: Path) -> tuple[bool, bool]:
    """Return whether a directory is not the one that its run wrote into, and whether it is unfinished."""
    try:
        name = json.loads((path / RUN).read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, TypeError, KeyError):
        name = None
    return name != path.name, not (path / MANIFEST).is_file()


def settled(plan: Plan, again: Callable[[], Plan]) -> Plan:
    """Return a plan whose directory is made: processes that ask for one run in other words at one time agree on a name.

    Args:
        plan: as it was named before.
        again: names it, now that no other process does.
    """
    kind = plan.path.parent
    try:
        kind.mkdir(parents=True, exist_ok=True)
        with FileLock(kind / ".names.lock"):
            named = again()
            named.path.mkdir(exist_ok=True)
    except OSError:  # it cannot be written: whoever makes the artifact says so
        return again()
    return named
