"""What `dpo-lab doctor` plans against what a training takes, each in its own process: python scripts/bench_memory.py.

With --checkpointing: what activation checkpointing saves and costs, LoRA on 57 M parameters, a pair of so many tokens a step, and
no reference pass before, whose memory the process would keep.
"""

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


LONG, STEPS = (2048, 8192), 2


def checkpointing() -> None:
    """Print what each length takes without and with it: growth of memory at its most, and CPU-seconds of a step."""
    print("| tokens of a pair | checkpointing | planned, MiB | measured, MiB | CPU-seconds a step |\n|---|---|---|---|---|")
    for length in LONG:
        for again in ("false", "true"):
            words = f"recipe.batch_size=1 recipe.token_budget={length} recipe.max_length={2 * length} trainer.max_steps={STEPS}"
            words += f" data.held_out=1 reference=adapter_off model.checkpointing={again}"
            found = measured("57M", "lora", words, "--pairs", "4", "--length", str(length))
            planned, grown, seconds = found["planned"] / MIB, found["measured"] / MIB, found["seconds"] / STEPS
            print(f"| {length} | {again} | {planned:.0f} | {grown:.0f} | {seconds:.1f} |", flush=True)


def main() -> None:
    """Print a table of the cases, or of one."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--checkpointing", action="store_true")
    arguments.add_argument("--case", nargs=4, metavar=("MODEL", "WAY", "WORDS", "OPTIONS"))
    given = arguments.parse_args()
    if given.checkpointing:
        checkpointing()
        return
    print("| model | training | planned, MiB | measured, MiB | planned / measured | at its most in |\n|---|---|---|---|---|---|")
    for model, way, words, options in [given.case] if given.case else CASES:
        found = measured(model, way, words, *options.split())
        planned, grown = found["planned"] / MIB, found["measured"] / MIB
        part = max(found["grown"], key=found["grown"].get)
        what = " ".join([way, words, options]).strip()
        print(f"| {model} | {what} | {planned:.0f} | {grown:.0f} | {planned / grown:.3f} | {part} |", flush=True)


if __name__ == "__main__":
    main()
