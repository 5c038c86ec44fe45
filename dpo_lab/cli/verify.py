"""`dpo-lab verify [DIR]`: every file that runs have written compared with its digest, and what to delete of what is damaged.

Exit codes: 0 everything is whole, 1 something is damaged, 2 there is nothing to check.
"""

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpo_lab.cli.session import ERROR, complain
from dpo_lab.cli.session import USAGE as USAGE_CODE
from dpo_lab.folding import folded

USAGE = """usage: dpo-lab verify [DIR]

compare every file below an outputs directory with its digest, and say what is damaged and what to delete

  DIR    an outputs directory, a directory in it, or one artifact; outputs if it is left out

exit codes: 0 everything is whole, 1 something is damaged, 2 there is nothing to check
"""
CHECKPOINTS = "checkpoints/*.ckpt"
BEGUN = ("checkpoints", "kept", "parts")
"""Directories of an artifact that is not finished."""


@dataclass
class Found:
    """What has been looked at."""

    whole: dict[Path, dict[str, Any]] = field(default_factory=dict)
    """Directories of whole artifacts with their manifests."""
    damaged: dict[Path, str] = field(default_factory=dict)
    """What is damaged, and how: artifacts, and checkpoints of unfinished ones."""
    unfinished: list[Path] = field(default_factory=list)
    bytes: int = 0


def verify(words: Sequence[str]) -> int:
    """Check what stands in a directory and report; return the exit code."""
    if {"-h", "--help"} & set(words):
        sys.stdout.write(folded(USAGE))
        return 0
    if len(words) > 1 or (words and words[0].startswith("-")):
        return complain(f"{' '.join(words)}: verify takes one directory, and no options. Write dpo-lab verify DIR", USAGE_CODE)
    root = Path(words[0] if words else "outputs")
    if not root.is_dir():
        return complain(f"{root} is not a directory. Write dpo-lab verify DIR", USAGE_CODE)
    if root.name in ("", "..") and artifacts_below(root) == [root]:
        root = root.resolve()  # rm refuses `.`
    if not (places := artifacts_below(root)):
        return complain(f"{root} holds no artifact: no directory with a manifest.json, or an unfinished one.", USAGE_CODE)
    from dpo_lab.components import RunError

    started = time.monotonic()
    try:
        state = look(places)
    except RunError as error:
        return complain(str(error), ERROR)
    report(state, suspects(state), time.monotonic() - started)
    return ERROR if state.damaged else 0


def artifacts_below(root: Path) -> list[Path]:
    """Return the directories of artifacts at or below a directory, unfinished ones included."""
    from dpo_lab.manifests import MANIFEST

    if (root / MANIFEST).exists():
        return [root]
    levels = ("*", "*/*", "*/*/*", "*/*/*/*")  # reruns stand two directories further down
    found = {path.parent for level in levels for name in (MANIFEST, *BEGUN) for path in root.glob(f"{level}/{name}")}
    locks = (lock for level in ("", *(f"{level}/" for level in levels)) for lock in root.glob(f"{level}.*.lock"))
    begun = {lock.with_name(lock.name[1 : -len(".lock")]) for lock in locks}  # a lock stays, whatever is left of what was begun
    return sorted({*found, *(path for path in begun if path.is_dir())})


def look(places: Sequence[Path]) -> Found:
    """Return what artifacts are, every file compared."""
    from dpo_lab.damage import examine
    from dpo_lab.durable_files import seal_holds

    state = Found()
    for place in places:
        examined = examine(place, thorough=True)
        if examined.manifest:
            state.whole[place] = examined.manifest
            state.bytes += sum(about["bytes"] for about in examined.manifest["files"].values())
        elif examined.damage:
            state.damaged[place] = examined.damage
        else:
            state.unfinished.append(place)
            for checkpoint in sorted(place.glob(CHECKPOINTS)):
                state.bytes += checkpoint.stat().st_size
                if not seal_holds(checkpoint):
                    state.damaged[checkpoint] = "it does not match the digest that it carries"
    return state


def suspects(state: Found) -> dict[Path, str]:
    """Return the whole artifacts that were made from damaged ones, each with one of these."""
    from dpo_lab.damage import descendants

    suspected: dict[Path, str] = {}
    parents = {str(parent) for manifest in state.whole.values() for parent in manifest["parents"]}
    for path in state.damaged:  # by its name: its manifest may be what is damaged
        identities = [parent for parent in parents if parent[:8] == path.name.rpartition("-")[2]]
        suspected = {**dict.fromkeys(descendants(_beside(path, state.whole), identities), str(path)), **suspected}
    return suspected


def _beside(damaged: Path, whole: Mapping[Path, dict[str, Any]]) -> dict[Path, dict[str, Any]]:
    """Return the artifacts that stand in the outputs directory of a damaged one, or in one that has no copy of it."""
    own, place = damaged.absolute().parents[1], Path(damaged.parent.name, damaged.name)
    roots = {path: path.absolute().parents[1] for path in whole}
    return {path: whole[path] for path, root in roots.items() if root == own or not (root / place).exists()}


def report(state: Found, suspected: dict[Path, str], seconds: float) -> None:
    """Print what was found and what to do."""
    from dpo_lab.amounts import bytes_text

    for path, damage in state.damaged.items():
        sys.stdout.write(f"damaged   {path}: {damage}\n")
    for path, source in suspected.items():
        sys.stdout.write(f"suspect   {path}: made from {source}\n")
    for path in state.unfinished:
        sys.stdout.write(f"unfinished {path}\n")
    checked = len(state.whole) + len(state.damaged)
    sys.stdout.write(f"{checked} checked, {bytes_text(state.bytes)} in {seconds:.1f} s: {len(state.damaged)} damaged\n")
    if state.damaged:
        paths = [str(path) for path in (*state.damaged, *suspected)]
        sys.stdout.write(f"delete what is damaged and what was made from it:\n  rm -r {shlex.join(paths)}\n")
        sys.stdout.write(
            "then repeat the commands that made it. A command that needs a damaged part makes it again by itself too.\n"
        )
