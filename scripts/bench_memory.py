"""What `dpo-lab doctor` plans against what a training takes, each in its own process: python scripts/bench_memory.py."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from dpo_lab.start import check

check()

import argparse
import json
import subprocess
from typing import Any

from scripts.bench.task import MARK

MIB = 2**20


CASES = (
    ("57M", "full", "recipe.batch_size=8", "--pairs 20"),
    ("57M", "lora", "recipe.batch_size=8", "--pairs 20"),
    ("57M", "4bit", "recipe.batch_size=8", "--pairs 20"),
    ("57M", "8bit", "recipe.batch_size=8", "--pairs 20"),
    ("135M", "lora", "recipe.batch_size=8", "--pairs 20"),
)
"""Model, way, more words of the command line, and options of bench/memory.py."""


def measured(model: str, way: str, words: str, *more: str) -> dict[str, Any]:
    """Return what was planned and what was measured, in bytes."""
    command = [sys.executable, "-m", "scripts.bench.memory", "--model", model, "--way", way, "--words", words, *more]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    line = next(line for line in output.splitlines() if line.startswith(MARK))
    found: dict[str, Any] = json.loads(line.removeprefix(MARK))
    return found


def main() -> None:
    """Print a table of the cases, or of one."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--case", nargs=4, metavar=("MODEL", "WAY", "WORDS", "OPTIONS"))
    given = arguments.parse_args()
    print("| model | training | planned, MiB | measured, MiB | planned / measured | at its most in |\n|---|---|---|---|---|---|")
    for model, way, words, options in [given.case] if given.case else CASES:
        found = measured(model, way, words, *options.split())
        planned, grown = found["planned"] / MIB, found["measured"] / MIB
        part = max(found["grown"], key=found["grown"].get)
        what = " ".join([way, words, options]).strip()
        print(f"| {model} | {what} | {planned:.0f} | {grown:.0f} | {planned / grown:.3f} | {part} |", flush=True)


if __name__ == "__main__":
    main()
