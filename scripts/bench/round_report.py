"""From the seconds of the parts to the table of bench_round.py: by part, as a whole, and against the targets."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.bench.round_parts import BLENDER, ONE_BY_ONE, ONE_PROMPT, PADDED

TARGETS = {"defaults": 6.0, "best": 2.7}
"""How many times our CPU-seconds the assembled round should take: of defaults, and of the best known settings."""
CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "defaults": {"sample": (ONE_BY_ONE,), "rank": (ONE_PROMPT,), "train": ("TRL defaults",)},
    "best": {"sample": (ONE_BY_ONE, PADDED), "rank": (ONE_PROMPT, BLENDER), "train": ("TRL defaults", "TRL best")},
}
"""Who may stand for a part of an assembled round; of several the quickest does."""
Seconds = dict[str, dict[str, float]]


def totals(state: Mapping[str, Any]) -> Seconds:
    """Return the CPU-seconds of each part by contestant: sums over portions, of a training the median of its runs.

    A contestant that lacks a portion is left out.
    """
    found: Seconds = {}
    for part in ("sample", "rank"):
        portions = [each["seconds"] for each in state.get(part, {}).values()]
        whole = len(portions) == state["settings"]["portions"]
        names = [name for name in portions[0] if all(name in portion for portion in portions)] if whole else []
        found[part] = {name: sum(portion[name] for portion in portions) for name in names}
    found["train"] = {name: statistics.median(including(run) for run in runs) for name, runs in state.get("train", {}).items()}
    return found


def including(result: Mapping[str, Any]) -> float:
    """Return the seconds of a training with its reference."""
    cached = sum(result["reference_seconds"]) if result["reference_cached"] else 0.0
    return float(sum(result["epoch_seconds"]) + cached)


def quickest(seconds: Seconds, way: str) -> dict[str, str]:
    """Return who stands for each part of an assembled round; a part that nobody ran is left out."""
    ran = {part: [name for name in names if name in seconds[part]] for part, names in CHOICES[way].items()}
    return {part: min(names, key=seconds[part].__getitem__) for part, names in ran.items() if names}


def lines(state: Mapping[str, Any]) -> list[str]:
    """Return the report: a table of the parts, and one of the whole if every part was run.

    >>> runs = [{"epoch_seconds": [9.0], "reference_seconds": [1.0], "reference_cached": True}]
    >>> twice = [{"epoch_seconds": [20.0], "reference_seconds": [0.0], "reference_cached": False}]
    >>> print(*lines({"settings": {"portions": 4}, "train": {"ours": runs, "TRL best": twice}}), sep="\\n")
    | part | contestant | CPU-s | times ours |
    |---|---|---|---|
    | train | ours | 10.0 | 1.00 |
    | train | TRL best | 20.0 | 2.00 |
    sample, rank: not run, so there is no whole yet.
    """
    seconds = totals(state)
    rows = ["| part | contestant | CPU-s | times ours |", "|---|---|---|---|"]
    for part, names in seconds.items():
        for name, taken in names.items():
            times = f"{taken / names['ours']:.2f}" if "ours" in names else ""
            rows.append(f"| {part} | {name} | {taken:.1f} | {times} |")
    missing = [part for part, names in seconds.items() if "ours" not in names]
    if missing:
        return [*rows, f"{', '.join(missing)}: not run, so there is no whole yet."]
    return [*rows, *whole(seconds)]


def whole(seconds: Seconds) -> Sequence[str]:
    """Return one line for our round and one for each assembled round with its target."""
    ours = sum(names["ours"] for names in seconds.values())
    found = [f"whole round, ours: {ours:.1f} CPU-s"]
    for way, target in TARGETS.items():
        chosen = quickest(seconds, way)
        if absent := [part for part in seconds if part not in chosen]:
            found.append(f"whole round, {way}: nobody ran {', '.join(absent)}")
            continue
        taken = sum(seconds[part][name] for part, name in chosen.items())
        word = "reached" if taken / ours >= target else "missed"
        who = " + ".join(chosen.values())
        found.append(f"whole round, {way} ({who}): {taken:.1f} CPU-s, {taken / ours:.2f}x, target {target:g}x, {word}")
    return found
