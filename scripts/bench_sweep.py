"""A sweep of eight runs beside eight runs of TRL and of ms-swift: python scripts/bench_sweep.py run|report --state DIR.

Four learning rates with two betas, the same 16 pairs of HH's lengths in each run, one epoch in 2 steps of 8 pairs (AdamW, the
rate constant), a random Mistral of 57 M weights in float32, one thread; `--portions 2` doubles pairs and steps. Full or LoRA:

    python scripts/bench_sweep.py run    --state DIR [--adapter lora] --only ours
    python scripts/bench_sweep.py run    --state DIR [--adapter lora] --trl-python TRL/bin/python --only "TRL defaults" --points 0
    python scripts/bench_sweep.py report --state DIR [--adapter lora]

Ours runs the sweep in one process, as `train.py -m` does, with one token store and one reference pass. A peer's run is a process
of its own, so that some of its eight (`--points`, from 0 on) may stand for all; the report says how many were measured. A run is
kept if losses and gradient norms of every step are those of ours at the same point, and the norms no nearer to another point's:
the losses of two steps hardly tell one rate from another. CPU-seconds of training with its reference; what comes before (imports,
the model, the trainer) stands apart, and nobody tokenises. Every call adds to DIR/sweep.json. bench_train.py says how the peers'
environments are made.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from dpo_lab.start import check

check()

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from scripts.bench.figures import objections
from scripts.bench.kept import State, keep, load, where
from scripts.bench.sweep_report import lines, seconds
from scripts.bench.sweep_task import SweepTask, at, contestants
from scripts.bench.task import Result

STATE, PAIRS = "sweep.json", "pairs.json"


def command_line() -> argparse.ArgumentParser:
    """Return what can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("run", "report"))
    parser.add_argument("--state", type=Path, required=True, help="directory that keeps the results")
    parser.add_argument("--adapter", choices=("none", "lora"), default="none")
    parser.add_argument("--only", default="", help="comma-separated names of contestants; default: all")
    parser.add_argument("--points", type=int, nargs="+", help="runs of the sweep that peers do, from 0 on; default: all")
    parser.add_argument("--trl-python", default="", help="interpreter that has TRL; without it TRL is left out")
    parser.add_argument("--swift-python", default="", help="interpreter that has ms-swift; without it ms-swift is left out")
    parser.add_argument("--token-budget", type=int, default=2048, help="ours: tokens per forward pass of the training")
    parser.add_argument("--portions", type=int, default=SweepTask().portions, help="of 16 pairs")
    parser.add_argument("--layers", type=int, default=SweepTask().layers, help="fewer are not a benchmark")
    return parser


def refuse_equal_runs(runs: Sequence[Result]) -> None:
    """End the process if two runs of the sweep report the same losses: then it swept nothing."""
    if len({tuple(run.losses) for run in runs}) < len(runs):
        raise SystemExit("error: two runs of the sweep have the same losses, so they are one run: nothing is kept.")


def nearest(made: Result, sweep: Sequence[Result]) -> int:
    """Return the place of the run whose gradient norms are nearest: another rate or beta moves them more than rounding does."""
    gaps = [max(abs(one / other - 1) for one, other in zip(made.grad_norms, run.grad_norms, strict=True)) for run in sweep]
    return gaps.index(min(gaps))


def told(name: str, point: object, run: dict[str, Any]) -> None:
    """Print what a run took."""
    print(f"{name}, {point}: {seconds(run):.1f} CPU-s, start-up {run['other_seconds']:.1f} CPU-s", flush=True)


def run(asked: argparse.Namespace, sizes: SweepTask, state: State) -> int:
    """Run the contestants that are asked for and keep their results; return 1 at the first that does not do the same work."""
    sizes.write_pairs(asked.state / PAIRS)
    wanted = {name.strip() for name in asked.only.split(",") if name.strip()}
    there = {contestant.name: contestant for contestant in contestants(asked, sizes, asked.state / PAIRS)}
    if unknown := wanted - there.keys():
        raise SystemExit(f"error: --only: {sorted(unknown)} do not compete here; there are {list(there)}.")
    places = range(len(sizes.points)) if asked.points is None else asked.points
    if outside := [place for place in places if not 0 <= place < len(sizes.points)]:
        raise SystemExit(f"error: --points: {outside}; runs are numbered from 0 to {len(sizes.points) - 1}.")
    for name in [name for name in there if not wanted or name in wanted]:
        if name == "ours":
            runs = there[name].run_all(asked, 1)
            refuse_equal_runs(runs)
            state.setdefault("ours", []).append(list(map(asdict, runs)))
            keep(asked.state / STATE, state)
            for point, made in zip(sizes.points, runs, strict=True):
                told(name, point, asdict(made))
            continue
        if not state.get("ours"):
            raise SystemExit("error: peers are compared with our sweep, which was not run. Type: run --only ours first.")
        for place in places:
            made = at(there[name], sizes.points[place]).run(asked, 1)
            sweep = [Result(**each) for each in state["ours"][0]]
            found = objections({"ours": sweep[place], name: made}, asked.precision, sizes.steps)
            if not found and (near := nearest(made, sweep)) != place:
                found = [f"{name}: gradient norms {made.grad_norms} are nearer to those of our run {near} than of {place}."]
            if found:
                print(*found, "Not the same training: the run is not kept.", sep="\n")
                return 1
            state.setdefault("peers", {}).setdefault(name, {}).setdefault(str(place), []).append(asdict(made))
            keep(asked.state / STATE, state)
            told(name, sizes.points[place], asdict(made))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for, or print the table of what was run."""
    asked = command_line().parse_args(arguments)
    asked.precision, asked.threads = "fp32", 1
    sizes = SweepTask(adapter=asked.adapter, portions=asked.portions, layers=asked.layers)
    asked.state.mkdir(parents=True, exist_ok=True)
    state = load(asked.state / STATE, sizes.settings())
    if asked.part == "run":
        return run(asked, sizes, state)
    print(f"{where(state)}; {sizes.steps} steps a run", *lines(state), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
