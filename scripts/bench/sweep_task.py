"""The sweep of bench_sweep.py: its runs, its pairs, and who competes."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from scripts.bench import task
from scripts.bench.contestants import Contestant, competing

PEERS = ("TRL defaults", "TRL best", "ms-swift defaults", "ms-swift best")
FACTORS, BETAS = (0.25, 0.5, 1.0, 2.0), (0.05, 0.1)
"""Of the task's learning rate, and beta: eight runs."""


@dataclass(frozen=True)
class Point:
    """What a run of the sweep is set to."""

    lr: float
    beta: float

    @classmethod
    def of(cls, word: str) -> "Point":
        """Return the point that a word of a command line names.

        >>> Point.of("1e-05:0.1")
        Point(lr=1e-05, beta=0.1)
        """
        lr, _, beta = word.partition(":")
        return cls(float(lr), float(beta))

    def __str__(self) -> str:
        return f"{self.lr}:{self.beta}"


@dataclass(frozen=True, kw_only=True)
class SweepTask:
    """What the sweep trains; the defaults, with each adapter, are those of the reported figures."""

    adapter: str = "none"
    portions: int = 1
    """Of 16 pairs of HH's lengths, two steps each, all in one epoch."""
    layers: int = 8

    @property
    def steps(self) -> int:
        """Optimizer steps of a run.

        >>> SweepTask().steps
        2
        """
        return self.portions * len(task.LENGTHS) // task.PAIRS_PER_STEP

    @property
    def points(self) -> list[Point]:
        """The runs: every learning rate with every beta."""
        return [Point(factor * task.LEARNING_RATE[self.adapter], beta) for factor in FACTORS for beta in BETAS]

    def settings(self) -> dict[str, Any]:
        """Return the sizes as plain data."""
        return asdict(self)

    def write_pairs(self, file: Path) -> None:
        """Write the pairs for the contestants."""
        pairs = [pair for portion in range(self.portions) for pair in task.pairs(seed=portion)]
        file.write_text(json.dumps([[pair.prompt, pair.chosen, pair.rejected] for pair in pairs]), encoding="utf-8")


def contestants(asked: argparse.Namespace, sizes: SweepTask, file: Path) -> Iterator[Contestant]:
    """Yield ours, which runs the whole sweep, and the peers, which know one run; nobody warms up, and all steps are compared."""
    more = ("--warm-up", "0", "--compared", str(sizes.steps), "--file", str(file.resolve()))
    for each in competing(asked):
        if each.name == "ours":
            points: Sequence[str] = ("--points", *map(str, sizes.points))
            yield replace(each, module="sweep_ours", more=(*more, *points), epochs_per_repetition=1)
        elif each.name in PEERS:
            yield replace(each, more=more)


def at(contestant: Contestant, point: Point) -> Contestant:
    """Return a peer that runs one point of the sweep."""
    return replace(contestant, more=(*contestant.more, "--lr", str(point.lr), "--beta", str(point.beta)))
