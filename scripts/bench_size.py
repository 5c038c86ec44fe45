"""Memory and time of ranking and pairing many answers, the stage in its own process: python scripts/bench_size.py."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from dpo_lab.start import check

check()

import argparse
import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

RANK = ROOT / "scripts" / "rank.py"
PARTS = ("candidates", "ranking", "pairs")
VOCABULARY = [f"{first}{second}{third}" for first in "bdfgklmnprstvz" for second in "aeiou" for third in ("", "n", "rt", "s")]


def rows(prompts: int, answers: int, words: int) -> Iterator[dict[str, Any]]:
    """Yield prompts with answers of random words, half to one and a half times as many as `words`; the same ones each time."""
    draw = random.Random(0)
    for number in range(prompts):
        texts = [" ".join(draw.choices(VOCABULARY, k=draw.randint(words // 2, words * 3 // 2))) for _ in range(answers)]
        yield {"prompt": f"Question {number}: {' '.join(draw.choices(VOCABULARY, k=12))}?", "responses": texts}


LAUNCH = """
import os, resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(code)
"""
"""A small process between: what a process had before it became another one counts as that one's peak."""


@dataclass(frozen=True)
class Measured:
    """One call of the stage."""

    wall: float
    cpu: float
    peak: float
    """Resident memory at its highest, in GB."""


def call(words: Sequence[str]) -> Measured:
    """Run the stage once; SystemExit with what it said if it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", LAUNCH, sys.executable, str(RANK), *words]
    started = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    wall = time.monotonic() - started
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    cpu, peak = map(float, done.stdout.splitlines()[-1].split())
    return Measured(wall, cpu, peak / 1e6)


def seconds(outputs: Path) -> dict[str, float]:
    """Return how long each artifact took, from its manifest."""
    (manifests,) = zip(*(outputs.glob(f"{part}/*/manifest.json") for part in PARTS), strict=True)
    return {part: json.loads(path.read_text())["seconds"] for part, path in zip(PARTS, manifests, strict=True)}


def main() -> None:
    """Print one line of a table for each number of prompts."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--prompts", type=int, nargs="+", default=[1000, 20_000])
    arguments.add_argument("--answers", type=int, default=5)
    arguments.add_argument("--words", type=int, default=60, help="of an answer, on average")
    arguments.add_argument("ranker", nargs="*", default=["ranker=length"], help="words for the stage, in front of options")
    given = arguments.parse_args()
    print("| prompts | MB | read, s | rank, s | pair, s | all, s per 1000 | CPU-s | peak, GB | found again, s |", flush=True)
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        for count in given.prompts:
            path, outputs = Path(name) / f"answers_{count}.jsonl", Path(name) / f"outputs_{count}"
            with path.open("w") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows(count, given.answers, given.words))
            words = [f"candidates.path={path}", f"paths.outputs={outputs}", "trainer=cpu", *given.ranker]
            first, again = call(words), call(words)
            took = seconds(outputs)
            parts = " | ".join(f"{took[part]:.1f}" for part in PARTS)
            each = sum(took.values()) * 1000 / count
            print(
                f"| {count} | {path.stat().st_size / 1e6:.0f} | {parts} | {each:.2f} | {first.cpu:.0f} | {first.peak:.2f} "
                f"| {again.wall:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
