"""What `dpo-lab doctor` plans against what a training takes, each in a process of its own: python scripts/bench_memory.py."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from scripts.bench.task import MARK  # noqa: E402

MIB = 2**20


def measured(model: str, way: str, *more: str) -> dict[str, Any]:
    """Return what was planned and what was measured, in bytes."""
    command = [sys.executable, "-m", "scripts.bench.memory", "--model", model, "--way", way, *more]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    line = next(line for line in output.splitlines() if line.startswith(MARK))
    found: dict[str, Any] = json.loads(line.removeprefix(MARK))
    return found


def main() -> None:
    """Print a table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--models", default="57M,135M")
    arguments.add_argument("--ways", default="full,lora,4bit")
    arguments.add_argument("--budget", default="1024")
    given = arguments.parse_args()
    print("| model | training | planned, MiB | measured, MiB | planned / measured |\n|---|---|---|---|---|", flush=True)
    for model in given.models.split(","):
        for way in given.ways.split(","):
            found = measured(model, way, "--budget", given.budget)
            planned, grown = found["planned"] / MIB, found["measured"] / MIB
            print(f"| {model} | {way} | {planned:.0f} | {grown:.0f} | {planned / grown:.3f} |", flush=True)


if __name__ == "__main__":
    main()
