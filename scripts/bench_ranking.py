"""PairRM beside llm-blender after equal scores: python scripts/bench_ranking.py --python PYTHON --path DIR --backbone DIR.

llm-blender does not run on this project's transformers, so it has its own environment:

    python3.11 -m venv blender && blender/bin/pip install llm-blender transformers==4.44.2 "torch<2.14" sentencepiece protobuf
    python scripts/bench_ranking.py --python blender/bin/python --path DIR --backbone DIR
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from dpo_lab.start import check

check()

import argparse
import json
import random
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch

from dpo_lab.ranking.base import OpenRanker
from dpo_lab.ranking.pairrm.ranker import PairRM
from dpo_lab.records import Candidates, Prompt
from scripts.bands import machine
from scripts.bench.figures import Spread, ratio, spread

TARGETS = {"short": 3.0, "long": 5.0}
"""How many times our CPU-seconds llm-blender's defaults should take."""
TOLERANCE = 1e-4
DEFAULT_BATCH, ALONE = 8, 1
"""Prompts of a batch: llm-blender's default, and the number at which its scores do not depend on a batch."""
TEXT = "the film was slow but honest about people who leave a small town and come back with more questions than answers"


def sets_of(kind: str, count: int, seed: int = 0) -> list[Candidates]:
    """Return sets of five answers; short: 6 to 40 words, long: log-normal around 100 and at most 380."""
    draw = random.Random(f"{kind} {seed}")

    def text() -> str:
        words = draw.randint(6, 40) if kind == "short" else min(380, max(6, round(draw.lognormvariate(4.6, 0.6))))
        return " ".join(draw.choice(TEXT.split()) for _ in range(words))

    return [Candidates(prompt=Prompt.from_text(text()), responses=tuple(text() for _ in range(5))) for _ in range(count)]


class Blender:
    """llm-blender in a process of another Python."""

    def __init__(self, python: str, path: str, backbone: str) -> None:
        command = [python, str(ROOT / "scripts/bench/blender_worker.py"), path, backbone]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def rank(self, sets: Sequence[Candidates], batch_size: int) -> tuple[list[list[float]], float]:
        """Return scores, and the CPU-seconds that they took."""
        asked = {
            "sources": [candidates.prompt.text for candidates in sets],
            "candidates": [candidates.responses for candidates in sets],
        }
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin
        assert stdout
        print(json.dumps({**asked, "batch_size": batch_size}), file=stdin, flush=True)
        if not (line := stdout.readline()):
            raise SystemExit("llm-blender ended without an answer: run scripts/bench/blender_worker.py with its Python.")
        found: dict[str, Any] = json.loads(line)
        return found["scores"], found["seconds"]


def largest_gap(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float:
    """Return the largest difference of two lists of scores.

    >>> largest_gap([[1.0, 2.0]], [[1.0, 2.5]])
    0.5
    """
    return max(abs(a - b) for first, second in zip(one, other, strict=True) for a, b in zip(first, second, strict=True))


def timed(ours: OpenRanker, blender: Blender, sets: Sequence[Candidates], rounds: int) -> tuple[Spread, Spread]:
    """Return the CPU-seconds of ours and of llm-blender's defaults; they take turns, a first turn warms up."""
    own, other = [], []
    for turn in range(rounds + 1):
        began = time.process_time()
        ours.rank(sets)
        seconds = time.process_time() - began
        theirs = blender.rank(sets, DEFAULT_BATCH)[1]
        if turn:
            own.append(seconds)
            other.append(theirs)
    return spread(own), spread(other)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if scores differ, for then nothing is timed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="of an environment with llm-blender")
    parser.add_argument("--path", required=True, help="directory in the layout of llm-blender/PairRM, with spm.model")
    parser.add_argument("--backbone", required=True, help="directory with the encoder's config.json")
    parser.add_argument("--prompts", type=int, default=32, help="sets of five answers of each kind")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    blender = Blender(asked.python, asked.path, asked.backbone)
    print(f"{machine()}, one thread; torch {version('torch')}, {asked.prompts} prompts x 5 answers, {asked.rounds} rounds")
    print("| texts | ours, CPU-s | llm-blender, CPU-s | times ours | target | largest gap of scores |\n|---|---|---|---|---|---|")
    with PairRM(path=asked.path, backbone=asked.backbone).open(torch.device("cpu")) as ours:
        for kind, target in TARGETS.items():
            sets = sets_of(kind, asked.prompts)
            gap = largest_gap([verdict.scores for verdict in ours.rank(sets)], blender.rank(sets, ALONE)[0])
            if not gap <= TOLERANCE:
                print(f"{kind} texts: scores differ by up to {gap:.2g}: nothing is timed.")
                return 1
            own, other = timed(ours, blender, sets, asked.rounds)
            print(f"| {kind} | {own} | {other} | {ratio(other, own)} | {target:g} | {gap:.1e} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
