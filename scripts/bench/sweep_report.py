"""From what the contestants report to the table of bench_sweep.py: the sweep's CPU-seconds, and against the targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.bench.figures import Spread, ratio, spread

TARGETS: dict[str, dict[str, float]] = {
    "none": {"TRL defaults": 10.0, "TRL best": 4.2, "ms-swift best": 2.2},
    "lora": {"TRL defaults": 13.0, "TRL best": 4.7, "ms-swift best": 2.5},
}
"""By adapter: how many times our CPU-seconds the eight runs of a peer should take."""
SHARING = ", one reference"
COLUMNS = ("contestant", "measured", "CPU-s of the sweep", "of it reference", "start-up, apart", "times ours")
NOTES = (
    "A sweep of a peer is the mean of the runs that were measured times their number. A run is a process of its own, and neither"
    " learning rate nor beta changes how much is computed. TRL's defaults and ms-swift compute the reference in every step.",
    f"TRL best{SHARING}: computed, with one pass for all runs. TRL keeps a precomputed reference beside the data set's file, and"
    " a run on the same file, weights and seed finds it; the pairs in memory of the row above have no file.",
)
Reported = Mapping[str, Any]


def reference(run: Reported) -> float:
    """Return the seconds of a run's reference, made in advance or in every step."""
    return float(sum(run["reference_seconds"]))


def seconds(run: Reported) -> float:
    """Return the seconds of a run, its reference included, without start-up."""
    return float(sum(run["epoch_seconds"])) + (reference(run) if run["reference_cached"] else 0.0)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """CPU-seconds of a sweep: all of it, the reference's part, and what comes before the training."""

    whole: Spread
    reference: Spread
    start_up: Spread

    def row(self, name: str, measured: str, ours: "Sweep") -> str:
        """Return the row of the table."""
        times = str(ratio(self.whole, ours.whole)) if self is not ours else "1"
        return f"| {name} | {measured} | {self.whole} | {self.reference} | {self.start_up} | {times} |"


def of_runs(runs: Sequence[Reported], count: int, *, passes: int | None = None) -> Sweep:
    """Return what a sweep of `count` runs takes that are like these.

    Args:
        passes: how many of them make the reference; default: all.

    >>> run = {"epoch_seconds": [5.0], "reference_seconds": [2.0], "reference_cached": True, "other_seconds": 1.0}
    >>> print(of_runs([run, {**run, "epoch_seconds": [6.0]}], 8).whole)
    60.00 [56.00, 64.00]
    >>> print(of_runs([run], 8, passes=1).whole)
    42.00 [42.00, 42.00]
    """
    saved = 0 if passes is None else count - passes
    return Sweep(
        whole=spread([count * seconds(run) - saved * reference(run) for run in runs]),
        reference=spread([(count - saved) * reference(run) for run in runs]),
        start_up=spread([count * run["other_seconds"] for run in runs]),
    )


def of_sweeps(sweeps: Sequence[Sequence[Reported]]) -> Sweep:
    """Return what our sweeps took."""
    return Sweep(
        whole=spread([sum(map(seconds, runs)) for runs in sweeps]),
        reference=spread([sum(map(reference, runs)) for runs in sweeps]),
        start_up=spread([sum(run["other_seconds"] for run in runs) for runs in sweeps]),
    )


def lines(state: Mapping[str, Any]) -> list[str]:
    """Return the table, a line for each target, and what the rows of the peers stand for."""
    if not state.get("ours"):
        return ["Our sweep was not run, so there is nothing to compare with. Type: run --only ours"]
    count, ours = len(state["ours"][0]), of_sweeps(state["ours"])
    rows = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    rows.append(ours.row("ours", f"{len(state['ours'])} x {count} runs", ours))
    targets, verdicts = TARGETS[state["settings"]["adapter"]], []
    for name, measured in state.get("peers", {}).items():
        runs = [run for each in measured.values() for run in each]
        theirs = of_runs(runs, count)
        rows.append(theirs.row(name, f"{len(measured)} of {count} runs", ours))
        if all(run["reference_cached"] for run in runs):
            rows.append(of_runs(runs, count, passes=1).row(name + SHARING, "computed", ours))
        if name in targets:
            times = ratio(theirs.whole, ours.whole).median
            word = "reached" if times >= targets[name] else "missed"
            verdicts.append(f"{name}: {times:.2f}x, target {targets[name]:g}x, {word}")
    return [*rows, *verdicts, *(NOTES if state.get("peers") else ())]
