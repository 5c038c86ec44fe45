"""`bash scripts/gpu_check.sh`: equality on the device, then speed, memory and utilisation, as one table and one JSON.

This part imports no torch. It hands jobs to a worker (gpu_worker.py), so that a job that hangs, dies or takes too much memory
costs nothing but itself, and writes what is known after each of them.
"""

import argparse
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from scripts.bench import gpu_report
from scripts.bench.gpu_jobs import Worker

Found = dict[str, Any]
KERNELS = ("varlen", "sdpa", "flex")  # what takes minutes to compile comes last
LAYOUTS = ("prefix", "packed")
LIMITS = {"machine": 120.0, "gemm": 60.0, "equality": 110.0, "ours": 150.0, "trl": 120.0}
"""Seconds after which a job is stopped; the first has the start of a worker in it, and FlexAttention is compiled in some."""
LEAST = 15.0  # seconds that a job is worth beginning for
SPARE = 10.0  # seconds for writing everything down
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
console = Console(highlight=False, width=170)


class StoppedError(Exception):
    """Somebody wants this to end."""


class Check:
    """Does jobs in order while there is time, and keeps what they found."""

    def __init__(self, worker: Worker, out: Path, minutes: float) -> None:
        self.worker, self.out = worker, out
        self.began = time.monotonic()
        self.until = self.began + 60 * minutes - SPARE
        self.record: Found = {"machine": {}, "gemm_tflops": None, "equality": [], "cases": []}

    def ask(self, job: str, **settings: Any) -> Found:
        """Return what a job found, or why it found nothing under `failed`."""
        left = self.until - time.monotonic()
        if left < LEAST:
            return {"failed": "not run: no time left"}
        return self.worker.ask({"job": job, **settings}, min(LIMITS[job], left))

    def save(self) -> None:
        """Write everything so far, whole files at a time."""
        for path, text in (
            (self.out, json.dumps(self.record, indent=1) + "\n"),
            (self.out.with_suffix(".md"), gpu_report.page(self.record)),
        ):
            new = path.with_name(path.name + ".new")
            new.write_text(text, encoding="utf-8")
            new.replace(path)

    def say(self, text: str) -> None:
        """Print a line with the seconds so far."""
        console.print(f"  {time.monotonic() - self.began:4.0f} s  {text}", markup=False, soft_wrap=True)

    def equality(self, kernels: tuple[str, ...]) -> None:
        """Find out which layouts have the gradients of padded rows."""
        console.print("gradients against those of padded rows")
        for kernel in kernels:
            for layout in LAYOUTS:
                for precision in ("fp32", "bf16"):
                    asked = {"layout": layout, "kernel": kernel, "precision": precision}
                    answer = self.ask("equality", **asked)
                    one = {**asked, "is": answer.get("failed") or ("equal" if answer["equal"] else "NOT equal"), **answer}
                    self.record["equality"].append(one)
                    said = f"gap {answer['gap']:.1e} of {answer['allowed']:.1e}, {one['is']}" if "gap" in answer else one["is"]
                    self.say(f"{layout} {kernel} {precision}: {said}")
                    self.save()
                    if one["is"] != "equal":
                        break

    def good(self, layout: str, kernel: str) -> bool:
        """Return whether the gradients of a layout were right in both formats."""
        tried = [check for check in self.record["equality"] if (check["layout"], check["kernel"]) == (layout, kernel)]
        return layout == "padded" or (len(tried) == 2 and all(check["is"] == "equal" for check in tried))

    def case(self, asked: Found) -> None:
        """Measure one case and keep it."""
        job = asked.get("job", "ours")
        if job == "ours" and not self.good(asked["layout"], asked["kernel"]):
            answer: Found = {"failed": "not measured: its gradients are not known to be right"}
        else:
            answer = self.ask(**{"job": job, **asked})
        if "operations_per_second" in answer and self.record["gemm_tflops"]:
            answer["utilisation"] = answer["operations_per_second"] / (1e12 * self.record["gemm_tflops"])
        one = {**asked, "name": gpu_report.name_of(asked), **answer}
        self.record["cases"].append(one)
        self.say(f"{one['name']} {one['lengths']} {one['quant']}: {answer.get('failed') or gpu_report.in_short(one)}")
        self.save()

    def run(self) -> int:
        """Do all jobs; return 1 if numbers are wrong or nothing could be measured."""
        machine = self.record["machine"] = self.ask("machine")
        if "failed" in machine:
            hint = ". The project's own packages are needed: pip install -e ." if "ModuleNotFound" in machine["failed"] else ""
            console.print(f"error: {machine['failed']}{hint}", markup=False, soft_wrap=True)
            return 2
        console.print(gpu_report.machine_line(machine), markup=False, soft_wrap=True)
        kernels = KERNELS if machine["on_gpu"] else ("sdpa",)
        self.equality(kernels)
        gemm = self.ask("gemm")
        self.record["gemm_tflops"] = gemm.get("tflops")
        self.say(gemm.get("failed") or f"a plain bf16 product: {gemm['tflops']:.1f} TFLOP/s")
        cases = plan(kernels, machine)
        try:
            for asked in cases:
                self.case(asked)
        except StoppedError:
            left = cases[len(self.record["cases"]) :]
            stopped = {"failed": "not run: stopped"}
            self.record["cases"] += [{**asked, "name": gpu_report.name_of(asked), **stopped} for asked in left]
        wrong = [check for check in self.record["equality"] if check["is"] != "equal"]
        measured = [case for case in self.record["cases"] if "pairs_per_second" in case]
        return int(bool(wrong) or not measured)


def plan(kernels: tuple[str, ...], machine: Found) -> list[Found]:
    """Return the cases, those first that one would miss most."""
    ours = [{"layout": layout, "kernel": kernel} for layout in LAYOUTS for kernel in kernels]
    padded = {"layout": "padded", "kernel": "sdpa"}
    lengths = machine["lengths"]
    plain = [{**one, "lengths": length, "quant": "none"} for length in lengths for one in (*ours, padded)]
    packed = [{**one, "lengths": length, "quant": "4bit"} for length in lengths for one in (*ours[len(kernels) :], padded)]
    prefix = [{**one, "lengths": length, "quant": "4bit"} for length in lengths for one in ours[: len(kernels)]]
    peers = [
        {"job": "trl", "variant": one, "lengths": length, "quant": "none"} for one in ("tuned", "defaults") for length in lengths
    ]
    some = [] if machine["without_bitsandbytes"] else prefix
    return [*plain, *some, *(peers if machine["trl"] else []), *(packed if some else [])]


def stop(*_: Any) -> None:
    """Turn the first signal into an exception; the others find it at work."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise StoppedError


def main(arguments: list[str] | None = None) -> int:
    """Run everything that the time allows."""
    parser = argparse.ArgumentParser(description="Equality, speed and memory on one GPU.")
    parser.add_argument(
        "--out", type=Path, default=Path("gpu_check.json"), help="file for every number; .md and .log stand beside it"
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="when it ends, whatever is left")
    parser.add_argument("--tiny", action="store_true", help="a dry run with a tiny model, on a CPU too")
    asked = parser.parse_args(arguments)
    if asked.out.suffix in (".md", ".log") or not os.access(asked.out.resolve().parent, os.W_OK):
        console.print(f"error: --out {asked.out}: name a .json file in a folder that can be written to", markup=False)
        return 2
    for number in SIGNALS:
        signal.signal(number, stop)  # also where SIGINT is ignored, as in jobs that a script starts in the background
    with Worker(tiny=asked.tiny, log=asked.out.with_suffix(".log")) as worker:
        check = Check(worker, asked.out, asked.minutes)
        try:
            code = check.run()
        except StoppedError:
            code = 1
        if code == 2:
            return code
        check.save()
    console.print(gpu_report.page(check.record), markup=False, soft_wrap=True)
    console.print(f"{asked.out}, {asked.out.with_suffix('.md')}", markup=False, soft_wrap=True)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
