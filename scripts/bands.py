"""python scripts/bands.py 0 1 2 --pairs FILE: whole runs of each seed as a table; exit code 1 if a band is missed.

Two kinds of run: `films`, which is plain `python train.py`, and `pairs`, the tiny model on a file of real preferences
(the band is for the first 400 of instruction-data-with-preference.json, rasbt/LLMs-from-scratch). Every run starts from nothing,
in its own directory, so that its seconds are those of a first run.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from dpo_lab.start import check

check()

import argparse
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise

from dpo_lab.figures import has_rounds

Summary = dict[str, float]


def gains(summary: Summary) -> list[float]:
    """Return by how much the gold reward rose in each round.

    >>> gains({"gold/before": 0.5, "gold/round_1": 0.75, "gold/round_1/low": 0.7, "gold/round_2": 0.875})
    [0.25, 0.125]
    """
    course = [summary["gold/before"], *(summary[f"gold/round_{number}"] for number in has_rounds(summary, "gold"))]
    return [after - before for before, after in pairwise(course)]


def value_of(name: str) -> Callable[[Summary], float]:
    """Return the function that reads one figure of a summary."""
    return lambda summary: summary[name]


@dataclass(frozen=True)
class Band:
    """What a figure has to be: at least `low`, at most `high`."""

    name: str
    figure: Callable[[Summary], float]
    low: float = float("-inf")
    high: float = float("inf")

    def holds(self, summary: Summary) -> bool:
        """Return whether a run's figure lies in the band; one that is not a number lies in none."""
        return self.low <= self.figure(summary) <= self.high

    def __str__(self) -> str:
        return f"{self.name} >= {self.low:g}" if self.low > float("-inf") else f"{self.name} <= {self.high:g}"


BANDS: dict[str, tuple[Band, ...]] = {
    "films": (
        Band("gain of round 1", lambda summary: gains(summary)[0], low=0.15),
        Band("smallest gain of a round", lambda summary: min(gains(summary)), low=1e-9),
        Band("gold/after", value_of("gold/after"), low=0.90),
        Band("win_rate", value_of("win_rate"), low=0.92),
        Band("win_rate/low", value_of("win_rate/low"), low=0.90),
        Band("well_formed/after", value_of("well_formed/after"), low=0.95),
        Band("kl", value_of("kl"), high=10.0),
    ),
    "pairs": (Band("eval/accuracy", value_of("eval/accuracy"), low=0.75),),
}
"""Of each kind of run, on every seed and with any number of threads."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "films": (
        *("gold/before", "gold/round_1", "gold/round_2", "gold/round_3", "gold/after", "win_rate", "win_rate/low"),
        *("kl", "well_formed/after", "seconds/total"),
    ),
    "pairs": ("eval/accuracy", "eval/accuracy/low", "eval/accuracy/high", "eval/pairs", "eval/loss", "seconds/total"),
}
"""What the table of each kind shows."""


def command(kind: str, seed: int, outputs: Path, pairs: Path | None) -> list[str]:
    """Return the command of a run."""
    data = ["data=jsonl", f"data.path='{pairs}'"] if kind == "pairs" else []
    return [sys.executable, str(ROOT / "train.py"), *data, f"seed={seed}", f"paths.outputs='{outputs}'"]


def run(kind: str, seed: int, outputs: Path, pairs: Path | None = None) -> Summary:
    """Run one seed to its end and return its summary.

    Args:
        outputs: an empty directory.
        pairs: the file that kind `pairs` trains on.

    Raises:
        RuntimeError: with the end of what the run printed, if it failed.
    """
    done = subprocess.run(command(kind, seed, outputs, pairs), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{kind}, seed {seed}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    (path,) = outputs.glob("train/*/summary.json")
    summary: Summary = json.loads(path.read_text(encoding="utf-8"))
    return summary


def missed(kind: str, summary: Summary) -> list[str]:
    """Return the bands that a run misses, each with the figure found."""
    return [f"{band} (found {band.figure(summary):.3f})" for band in BANDS[kind] if not band.holds(summary)]


def table(kind: str, summaries: dict[int, Summary]) -> str:
    """Return a Markdown table, one line per seed.

    >>> print(table("pairs", {0: {"eval/accuracy": 0.8761, "eval/pairs": 220, "seconds/total": 41.2}}))
    | seed | eval/accuracy | eval/accuracy/low | eval/accuracy/high | eval/pairs | eval/loss | seconds/total | bands |
    |---|---|---|---|---|---|---|---|
    | 0 | 0.876 | - | - | 220 | - | 41 | hold |
    """
    names = COLUMNS[kind]
    lines = [f"| seed | {' | '.join(names)} | bands |", f"|{'---|' * (len(names) + 2)}"]
    for seed, summary in summaries.items():
        figures = [shown(name, summary.get(name)) for name in names]
        verdict = "; ".join(missed(kind, summary)) or "hold"
        lines.append(f"| {seed} | {' | '.join(figures)} | {verdict} |")
    return "\n".join(lines)


def shown(name: str, value: float | None) -> str:
    """Return a figure as the table shows it: counts and seconds whole, the rest to three digits."""
    if value is None:
        return "-"
    return f"{value:.0f}" if name.startswith("seconds/") or name.endswith("/pairs") else f"{value:.3f}"


def machine() -> str:
    """Return where the figures come from."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    torch, transformers = version("torch"), version("transformers")
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch}, transformers {transformers}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every seed of both kinds and print the tables."""
    parser = argparse.ArgumentParser(description="Whole runs against their bands, as a table for docs/benchmarks.md.")
    parser.add_argument("seeds", nargs="+", type=int)
    parser.add_argument("--pairs", default="", help="file of preference pairs; without it only the film runs are measured")
    given = parser.parse_args(arguments)
    pairs = Path(given.pairs).resolve() if given.pairs else None
    if pairs and not pairs.is_file():
        parser.error(f"--pairs {given.pairs}: this file does not exist.")
    print(f"{machine()}\n")
    all_hold = True
    for kind in BANDS:
        if kind == "pairs" and pairs is None:
            print("kind pairs: not measured, no file was named (make bands PAIRS=FILE)")
            continue
        summaries: dict[int, Summary] = {}
        for seed in given.seeds:
            print(f"{kind}, seed {seed} ...", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory() as directory:
                summaries[seed] = run(kind, seed, Path(directory), pairs)
        all_hold = all_hold and not any(missed(kind, summary) for summary in summaries.values())
        data = f" data=jsonl data.path={pairs.name}" if kind == "pairs" and pairs else ""
        print(f"`python train.py{data} seed=...`\n\n{table(kind, summaries)}\n")
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())
