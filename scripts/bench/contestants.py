"""Who competes, with which command, and how the best setting of each is found."""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.bench.figures import including
from scripts.bench.task import PAIRS_PER_STEP, Result, parse_results

ROOT = Path(__file__).resolve().parents[2]
MICRO_BATCHES = tuple(str(size) for size in (1, 2, 4, PAIRS_PER_STEP))
TOKEN_BUDGETS = ("512", "1024", "2048", "4096")


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One way to train, in its own process."""

    name: str
    module: str
    python: str = sys.executable
    arguments: tuple[str, ...] = ()
    scanned: str = ""
    """The argument that may be tuned, the last one in `arguments`; its other values stand in `values`."""
    values: tuple[str, ...] = ()
    epochs_per_repetition: int = 1
    """More for what is quick, so that its median is as sure as the others'."""
    more: tuple[str, ...] = ()
    """Arguments about the task itself."""

    def with_value(self, value: str) -> "Contestant":
        """Return the same contestant with another value of its tuned argument."""
        return replace(self, arguments=(*self.arguments[:-1], value))

    def run(self, asked: argparse.Namespace, repetitions: int) -> Result:
        """Run it and return what it reports last."""
        return self.run_all(asked, repetitions)[-1]

    def run_all(self, asked: argparse.Namespace, repetitions: int) -> list[Result]:
        """Run it and return all that it reports.

        Raises:
            RuntimeError: with the end of what it printed, if it failed.
        """
        command = [self.python, "-m", f"scripts.bench.{self.module}", *self.more, *self.arguments]
        for name in ("adapter", "precision", "threads", "layers"):
            command += [f"--{name}", str(getattr(asked, name))]
        command += ["--repetitions", str(repetitions * self.epochs_per_repetition)]
        done = subprocess.run(
            command, cwd=ROOT, env=environment(asked.threads), capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode:
            raise RuntimeError(f"{self.name}: exit code {done.returncode}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
        return parse_results(done.stdout)


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a contestant's process: that many threads, the CPU, no network, no progress bars."""
    fixed = {"CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1", "WANDB_MODE": "disabled"}
    fixed |= {"HF_HUB_OFFLINE": "1", "MODELSCOPE_OFFLINE": "1"}
    return {**os.environ, **fixed, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def competing(asked: argparse.Namespace) -> Iterator[Contestant]:
    """Yield who competes, ours first; a peer only where its interpreter is named.

    Defaults are a library's own, but for the number format and what the task fixes: TRL takes 8 pairs at a time, ms-swift one.
    """
    tuned = {"scanned": "--micro-batch", "values": MICRO_BATCHES}
    budget = ("--token-budget", str(asked.token_budget))
    ours = Contestant(
        name="ours", module="ours", arguments=budget, scanned=budget[0], values=TOKEN_BUDGETS, epochs_per_repetition=4
    )
    yield ours
    yield replace(ours, name="ours without Lightning", arguments=("--loop", "plain", *budget), scanned="")
    yield Contestant(name="naive", module="naive", arguments=("--micro-batch", str(PAIRS_PER_STEP)))
    for peer, python, default_size in (("trl", asked.trl_python, PAIRS_PER_STEP), ("swift", asked.swift_python, 1)):
        if python:
            name, module = {"trl": "TRL", "swift": "ms-swift"}[peer], f"peer_{peer}"
            defaults = ("--variant", "defaults", "--micro-batch", str(default_size))
            best = ("--variant", "best", "--micro-batch", "1")
            yield Contestant(name=f"{name} defaults", module=module, python=python, arguments=defaults)
            yield Contestant(name=f"{name} best", module=module, python=python, arguments=best, **tuned)  # type: ignore[arg-type]


def left_out(asked: argparse.Namespace) -> list[str]:
    """Return one line for each peer that does not compete."""
    missing = [name for name, python in (("TRL", asked.trl_python), ("ms-swift", asked.swift_python)) if not python]
    return [f"{name} is left out: name an interpreter that has it (--{flag(name)}-python)." for name in missing]


def flag(name: str) -> str:
    """Return a peer's name on the command line."""
    return {"TRL": "trl", "ms-swift": "swift"}[name]


def scan(contestant: Contestant, asked: argparse.Namespace) -> tuple[Contestant, dict[str, float]]:
    """Return a contestant with the value that needs the fewest seconds, reference included, and the seconds of each.

    Values are tried from small to large; one that takes half as long again as the best so far is the last.
    """
    seconds: dict[str, float] = {}
    for value in contestant.values if contestant.scanned else ():
        took = seconds[value] = statistics.median(including(contestant.with_value(value).run(asked, repetitions=1)))
        if took > 1.5 * min(seconds.values()):
            break
    return (contestant.with_value(min(seconds, key=seconds.__getitem__)) if seconds else contestant), seconds
