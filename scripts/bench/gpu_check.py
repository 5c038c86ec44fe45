"""`bash scripts/gpu_check.sh`: equality on the device, then speed, memory and utilisation: one JSON per machine in docs/bench/.

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
ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "docs" / "bench"
"""One JSON per machine, from which `make tables` makes the tables of docs/benchmarks.md."""
KERNELS = ("varlen", "sdpa", "flex")  # what takes minutes to compile comes last
LAYOUTS = ("prefix", "packed")
PRECISIONS = ("fp32", "bf16", "fp16")
LIMITS = {"machine": 120.0, "gemm": 60.0, "equality": 110.0, "shapes": 110.0, "ours": 150.0, "trl": 120.0}
"""Seconds after which a job is stopped; the first has the start of a worker in it, and FlexAttention is compiled in some."""
LEAST = 15.0  # seconds that a job is worth beginning for
SPARE = 10.0  # seconds for writing everything down
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
console = Console(highlight=False, width=170)


class StoppedError(Exception):
    """Somebody wants this to end."""


class Check:
    """Does jobs in order while there is time, and keeps what they found."""

    def __init__(self, worker: Worker, out: Path | None, minutes: float, *, tiny: bool = False) -> None:
        self.worker = worker
        self.out = out
        """The file for what is known; None until the machine has told its name."""
        self.began = time.monotonic()
        self.until = self.began + 60 * minutes - SPARE
        self.record: Found = {"schema": gpu_report.SCHEMA, "tiny": tiny, "machine": {}, "gemm_tflops": None, "failed": {}}
        self.record |= {"equality": [], "shapes": [], "cases": []}

    def ask(self, job: str, **settings: Any) -> Found:
        """Return what a job found, or why it found nothing under `failed`."""
        left = self.until - time.monotonic()
        if left < LEAST:
            return {"failed": "not run: no time left"}
        return self.worker.ask({"job": job, **settings}, min(LIMITS[job], left))

    def save(self) -> None:
        """Write everything so far, the whole file at a time."""
        if self.out is None:
            return
        new = self.out.with_name(self.out.name + ".new")
        new.write_text(json.dumps(self.record, indent=1) + "\n", encoding="utf-8")
        new.replace(self.out)

    def say(self, text: str) -> None:
        """Print a line with the seconds so far."""
        console.print(f"  {time.monotonic() - self.began:4.0f} s  {text}", markup=False, soft_wrap=True)

    def equality(self, kernels: tuple[str, ...]) -> None:
        """Find out which layouts have the gradients of padded rows."""
        console.print("gradients against those of padded rows")
        for kernel in kernels:
            for layout in LAYOUTS:
                for precision in PRECISIONS:
                    asked = {"layout": layout, "kernel": kernel, "precision": precision}
                    answer = self.ask("equality", **asked)
                    one = {**asked, "is": answer.get("failed") or ("equal" if answer["equal"] else "NOT equal"), **answer}
                    self.record["equality"].append(one)
                    said = f"gap {answer['gap']:.1e} of {answer['allowed']:.1e}, {one['is']}" if "gap" in answer else one["is"]
                    self.say(f"{layout} {kernel} {precision}: {said}")
                    self.save()
                    if precision == "fp32" and one["is"] != "equal":
                        break

    def good(self, layout: str, kernel: str, precision: str) -> bool:
        """Return whether the gradients of a layout were right in float32 and in a number format."""
        tried = [check for check in self.record["equality"] if (check["layout"], check["kernel"]) == (layout, kernel)]
        right = {check["precision"] for check in tried if check["is"] == "equal"}
        return layout == "padded" or {"fp32", precision} <= right

    def shapes(self, kernels: tuple[str, ...]) -> None:
        """Find out what a row of a new length costs each attention function: FlexAttention may compile anew."""
        for kernel in kernels:
            one = {"layout": "prefix", "kernel": kernel, **self.ask("shapes", layout="prefix", kernel=kernel)}
            self.record["shapes"].append(one)
            self.say(f"prefix {kernel}: {one.get('failed') or gpu_report.new_shape(one)}")
            self.save()

    def case(self, asked: Found) -> None:
        """Measure one case and keep it."""
        job = asked.get("job", "ours")
        if job == "ours" and not self.good(asked["layout"], asked["kernel"], asked["precision"]):
            answer: Found = {"failed": "not measured: its gradients are not known to be right"}
        else:
            answer = self.ask(**{"job": job, **asked})
        if "operations_per_second" in answer:
            rates = {"mfu": self.record["machine"]["peak_tflops"], "of_gemm": self.record["gemm_tflops"]}
            answer |= {name: answer["operations_per_second"] / (1e12 * rate) if rate else None for name, rate in rates.items()}
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
        self.out = self.out or BENCH / f"{gpu_report.file_name(machine['device'])}.json"
        kernels = KERNELS if machine["on_gpu"] else ("sdpa",)
        self.equality(kernels)
        gemm = self.ask("gemm")
        self.record["gemm_tflops"] = gemm.get("tflops")
        self.record["failed"] |= {"a plain bf16 product": gemm["failed"]} if "failed" in gemm else {}
        self.say(gemm.get("failed") or f"a plain bf16 product: {gemm['tflops']:.1f} TFLOP/s")
        self.shapes(kernels)
        best = next((kernel for kernel in kernels if self.good("prefix", kernel, "bf16")), kernels[-1])
        cases = plan(kernels, machine, best)
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


def asked_for(layout: str, kernel: str, lengths: str, quant: str, **others: Any) -> Found:
    """Return a case: LoRA in bf16 without checkpointing, where nothing else is named."""
    plain = {"adapter": "lora", "precision": "bf16", "checkpointing": False}
    return {"layout": layout, "kernel": kernel, "lengths": lengths, "quant": quant, **plain, **others}


def plan(kernels: tuple[str, ...], machine: Found, best: str) -> list[Found]:
    """Return the cases, those first that one would miss most.

    Args:
        best: the attention function whose trainings are also measured with checkpointing, in fp16 and in full.
    """
    one_row = [(layout, kernel) for layout in LAYOUTS for kernel in kernels]
    padded = ("padded", "sdpa")
    lengths = machine["lengths"]
    plain = [asked_for(*one, length, "none") for length in lengths for one in (*one_row, padded)]
    ways: list[Found] = [{"checkpointing": True}, {"precision": "fp16"}, {"adapter": "none", "checkpointing": True}]
    settings = [asked_for("prefix", best, length, "none", **way) for way in ways for length in lengths]
    less = [asked_for("prefix", best, length, "4bit", checkpointing=True) for length in lengths]
    prefix = [asked_for("prefix", kernel, length, "4bit") for length in lengths for kernel in kernels]
    packed = [asked_for(*one, length, "4bit") for length in lengths for one in (*one_row[len(kernels) :], padded)]
    peers = [
        {"job": "trl", "variant": one, "lengths": length, "quant": "none"} for one in ("tuned", "defaults") for length in lengths
    ]
    quantised = not machine["without_bitsandbytes"]
    first = [*plain, *settings, *([*prefix, *less] if quantised else [])]
    return [*first, *(peers if machine["trl"] else []), *(packed if quantised else [])]


def stop(*_: Any) -> None:
    """Turn the first signal into an exception; the others find it at work."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise StoppedError


def main(arguments: list[str] | None = None) -> int:
    """Run everything that the time allows."""
    parser = argparse.ArgumentParser(description="Equality, speed and memory on one GPU.")
    parser.add_argument(
        "--out", type=Path, help="file for every number, a .log stands beside it; without it docs/bench/DEVICE.json"
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="when it ends, whatever is left")
    parser.add_argument("--tiny", action="store_true", help="a dry run with a tiny model, on a CPU too; needs --out")
    asked = parser.parse_args(arguments)
    if asked.tiny and asked.out is None:
        console.print("error: --tiny measures nothing that docs/bench/ is for: name a file by --out gpu_check.json", markup=False)
        return 2
    if asked.out is None:
        BENCH.mkdir(exist_ok=True)
    beside: Path = asked.out or BENCH / "gpu_check.json"
    if beside.suffix == ".log" or not os.access(beside.resolve().parent, os.W_OK):
        console.print(f"error: --out {asked.out}: name a .json file in a folder that can be written to", markup=False)
        return 2
    for number in SIGNALS:
        signal.signal(number, stop)  # also where SIGINT is ignored, as in jobs that a script starts in the background
    with Worker(tiny=asked.tiny, log=beside.with_suffix(".log")) as worker:
        check = Check(worker, asked.out, asked.minutes, tiny=asked.tiny)
        try:
            code = check.run()
        except StoppedError:
            code = 1
        if code == 2:
            return code
        check.save()
    console.print(gpu_report.page(check.record), markup=False, soft_wrap=True)
    hint = "" if asked.out else "; `make tables` brings it into docs/benchmarks.md"
    console.print(f"{check.out}{hint}", markup=False, soft_wrap=True)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
