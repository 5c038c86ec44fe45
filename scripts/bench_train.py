"""python scripts/bench_train.py: seconds of DPO training, ours beside the naive loop, TRL and ms-swift on the same task.

    python scripts/bench_train.py --trl-python TRL/bin/python --swift-python SWIFT/bin/python --scan --rounds 3
    python scripts/bench_train.py --smoke

Each contestant runs in its own processes, a peer in its own interpreter: `pip install trl==1.16.0` in one
environment, `uv pip install ms-swift==4.6.0 transformers==5.19.0 trl==0.29.1` in another (pip takes long to resolve it).
All train the same model on the same ids with the same optimizer; nothing is timed unless their losses are the same.
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
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from scripts.bands import machine
from scripts.bench import flops
from scripts.bench.contestants import Contestant, competing, left_out, scan
from scripts.bench.figures import Figures, figures, objections, ratio, verdicts
from scripts.bench.task import Result

FULL_LAYERS = 8  # of the model of 57 M weights
console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def command_line() -> argparse.ArgumentParser:
    """Return what can be asked for."""
    parser = argparse.ArgumentParser(description="DPO training side by side: CPU seconds for the same 16 pairs.")
    parser.add_argument("--trl-python", default="", help="interpreter that has TRL; without it TRL is left out")
    parser.add_argument("--swift-python", default="", help="interpreter that has ms-swift; without it ms-swift is left out")
    parser.add_argument("--adapter", choices=("none", "lora"), default="none")
    parser.add_argument("--precision", choices=("fp32", "bf16-mixed"), default="fp32")
    parser.add_argument("--rounds", type=int, default=3, help="processes per contestant, in alternating order")
    parser.add_argument("--repetitions", type=int, default=1, help="timed epochs per process, after one to warm up")
    parser.add_argument("--scan", action="store_true", help="first find the best micro-batch of everyone that is tuned")
    parser.add_argument("--token-budget", type=int, default=2048, help="ours: tokens per forward pass, if not scanned")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, default=FULL_LAYERS)
    parser.add_argument("--only", default="", help="comma-separated names of contestants; default: all")
    parser.add_argument("--out", type=Path, help="file for every result, as JSON")
    parser.add_argument("--smoke", action="store_true", help="count tokens and compare log-probabilities, time nothing")
    return parser


def chosen(asked: argparse.Namespace) -> list[Contestant]:
    """Return the contestants of this run, tuned if that is asked for."""
    wanted = {name.strip() for name in asked.only.split(",") if name.strip()}
    everyone = list(competing(asked))
    if unknown := wanted - {contestant.name for contestant in everyone}:
        raise SystemExit(
            f"--only: {sorted(unknown)} do not compete here; there are {[contestant.name for contestant in everyone]}."
        )
    some = [contestant for contestant in everyone if not wanted or contestant.name in wanted or contestant.name == "ours"]
    if not asked.scan:
        console.print("Without --scan the best are run with one pair per forward pass, which was best where it was scanned.")
        return some
    tuned = []
    for each in some:
        best, seconds = scan(each, asked)
        tuned.append(best)
        if seconds:
            console.print(f"{each.name}: {each.scanned} " + ", ".join(f"{value} {took:.1f} s" for value, took in seconds.items()))
    budget = next(each for each in tuned if each.name == "ours").arguments[-1]
    return [each.with_value(budget) if each.module == "ours" else each for each in tuned]


def play(contestants: Sequence[Contestant], asked: argparse.Namespace) -> dict[str, list[Result]]:
    """Return the results of all rounds, every second one in reverse order; end the process where they do not agree."""
    results: dict[str, list[Result]] = {contestant.name: [] for contestant in contestants}
    for number in range(asked.rounds):
        for contestant in contestants if number % 2 == 0 else reversed(contestants):
            result = contestant.run(asked, asked.repetitions)
            results[contestant.name].append(result)
            seconds = ", ".join(f"{taken:.1f}" for taken in result.epoch_seconds)
            console.print(f"round {number + 1}/{asked.rounds}  {contestant.name}: {seconds} CPU-s", style="dim")
        if found := objections({name: made[-1] for name, made in results.items()}, asked.precision):
            console.print("Not the same training, so no ratio is reported:", *found, sep="\n  ", markup=False)
            raise SystemExit(1)
    return results


def table(made: dict[str, Figures], scanned: dict[str, str]) -> Table:
    """Return the table of all contestants, ready for docs/benchmarks.md."""
    shown = Table(box=MARKDOWN)
    names = ("contestant", "CPU-s, no reference", "CPU-s, with reference", "x, no ref.", "x, with ref.", "x, 2nd epoch on")
    for name in (*names, "GFLOP/pair", "% of GEMM", "MB"):
        shown.add_column(name, justify="left" if name == "contestant" else "right")
    ours = made["ours"]
    for name, each in made.items():
        shown.add_row(
            f"{name} ({scanned[name]})" if scanned[name] else name,
            str(each.excluding),
            str(each.including),
            *(str(ratio(getattr(each, kind), getattr(ours, kind))) for kind in ("excluding", "including", "later")),
            f"{each.gflop_per_pair:.1f}",
            f"{100 * each.gemm_share:.0f}",
            f"{each.peak_rss_mb:.0f}",
        )
    return shown


def report(results: dict[str, list[Result]], contestants: Sequence[Contestant], gemm: float, asked: argparse.Namespace) -> None:
    """Print the table and the targets, and write the results."""
    made = {name: figures(each, gemm) for name, each in results.items()}
    console.print(
        table(made, {contestant.name: " ".join(contestant.arguments[-2:]).removeprefix("--") for contestant in contestants})
    )
    amx, full = flops.instructions()["amx"], asked.layers == FULL_LAYERS
    targets = verdicts(made, asked.adapter, asked.precision, amx=amx) if full else [f"Targets are for {FULL_LAYERS} layers."]
    for line in (*targets, *left_out(asked)):
        console.print(line, markup=False)
    if asked.out:
        written: dict[str, Any] = {
            "machine": {"name": machine(), **flops.instructions(), "load": os.getloadavg(), "system": platform.platform()},
            "asked": {name: str(value) for name, value in vars(asked).items()},
            "gemm_gflops": gemm,
            "figures": {name: asdict(each) for name, each in made.items()},
            "results": {name: [asdict(result) for result in each] for name, each in results.items()},
        }
        asked.out.write_text(json.dumps(written, indent=1), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for."""
    asked = command_line().parse_args(arguments)
    if asked.smoke:
        from scripts.bench.smoke import smoke

        console.print(*smoke(), sep="\n")
        return 0
    torch.set_num_threads(asked.threads)
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    console.print(f"{machine()}; {asked.threads} thread; load {load}; adapter {asked.adapter}, {asked.precision}", markup=False)
    contestants = chosen(asked)
    rates = [flops.gemm_rate(asked.precision)]
    results = play(contestants, asked)
    rates.append(flops.gemm_rate(asked.precision))
    console.print(f"matrix product of 2048: {rates[0]:.0f} GFLOP per CPU-s before, {rates[1]:.0f} after the rounds")
    report(results, contestants, sum(rates) / len(rates), asked)
    return 0


if __name__ == "__main__":
    sys.exit(main())
