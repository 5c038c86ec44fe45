"""Memory and time of reading many short rows, each way in its own process: python scripts/bench_reading.py."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from dpo_lab.start import check

check()

import argparse
import json
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any


def plain(number: int) -> dict[str, Any]:
    """Return a row of three short texts."""
    return {"prompt": f"question number {number}?", "chosen": f" good answer {number}", "rejected": f" bad answer {number}"}


def conversation(number: int) -> dict[str, Any]:
    """Return a row of turns with scores and a column that nobody reads."""
    asked = [{"role": "user", "content": f"question number {number}?"}]
    answers = {name: [*asked, {"role": "assistant", "content": f"{name} answer {number}"}] for name in ("chosen", "rejected")}
    return {"prompt": asked, **answers, "score_chosen": number + 1.5, "score_rejected": number / 2, "extra": {"a": [1, 2, 3]}}


def noted(number: int) -> dict[str, Any]:
    """Return a row of turns in which three things are probably mistakes."""
    turns = [{"role": "user", "content": f" <s> question number {number}?"}]
    answers = {
        name: [{"role": "assistant", "content": text}]
        for name, text in (("chosen", f"café {number}"), ("rejected", f"cafe\u0301 {number}"))
    }
    return {"prompt": turns, **answers, "score_chosen": 1.0}


KINDS: dict[str, Callable[[int], dict[str, Any]]] = {"plain": plain, "conversation": conversation, "noted": noted}


def read(path: Path) -> None:
    """Print the seconds and the peak of this process for reading a file and splitting its pairs."""
    from dpo_lab.data.sources import FilePairs

    started = time.process_time()
    given = FilePairs(path=path).load()[0]
    seconds, peak = time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{len(given.train) + len(given.held_out)} pairs | {seconds:.0f} | {peak:.2f} |", flush=True)


def main() -> None:
    """Print one line of a table for each kind of row."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--read", type=Path, help="read this file in this process")
    given = arguments.parse_args()
    if given.read:
        read(given.read)
        return
    print("| rows | MB | pairs | CPU-s | peak, GB |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        for kind, row in KINDS.items():
            path = Path(name) / f"{kind}.jsonl"
            with path.open("w") as file:
                file.writelines(json.dumps(row(number)) + "\n" for number in range(given.rows))
            command = [sys.executable, __file__, "--read", str(path)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            print(f"| {kind} | {path.stat().st_size / 1e6:.0f} | {output.splitlines()[-1]}", flush=True)
            path.unlink()


if __name__ == "__main__":
    main()
