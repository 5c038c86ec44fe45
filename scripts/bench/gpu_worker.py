"""Does the jobs of gpu_check.sh one by one: a line of JSON in, a line of JSON out, in a process that may be stopped any time."""

import argparse
import json
import os
import platform
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from dpo_lab.models.quant import without_bitsandbytes
from scripts.bench import gpu_measure, gpu_model, gpu_peer, gpu_train, task
from scripts.bench.gpu_measure import Place

PACKAGES = ("torch", "triton", "transformers", "peft", "bitsandbytes", "trl")
BUDGETS = {100: 8192, 56: 4096, 32: 2048, 0: 1024}
"""Tokens of a micro-batch by the GiB that are free: activations of a 7B without checkpointing take about 8 MiB a token."""


BROKEN = ("CUDA error", "CUDNN_STATUS", "CUBLAS_STATUS", "Triton Error")
"""In the message of an error after which CUDA refuses everything else in the same process."""


def installed(package: str) -> str | None:
    """Return a package's version, None where it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine(place: Place) -> dict[str, Any]:
    """Return what the numbers are measured with, or why there will be none."""
    on_gpu = place.device.type == "cuda"
    if not on_gpu and not place.tiny:
        built = "is built for CPUs" if torch.version.cuda is None else f"is built for CUDA {torch.version.cuda}"
        return {"failed": f"torch sees no GPU here (torch {torch.__version__} {built}); --tiny is a dry run on a CPU."}
    name = torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine()
    return {
        "device": name,
        "on_gpu": on_gpu,
        "peak_tflops": gpu_model.peak_tflops(name),
        "memory_gib": torch.cuda.mem_get_info()[1] / 2**30 if on_gpu else None,
        "budget": place.budget,
        "python": platform.python_version(),
        "packages": {package: installed(package) for package in PACKAGES},
        "without_bitsandbytes": without_bitsandbytes(),
        "trl": installed("trl") if gpu_peer.available() else None,
        "lengths": list(place.lengths),
    }


def here(*, tiny: bool) -> Place:
    """Return where and on what the jobs are done; products of float32 keep all their digits."""
    torch.set_float32_matmul_precision("highest")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    free = torch.cuda.mem_get_info()[0] / 2**30 if device.type == "cuda" else 0.0
    budget = 64 if tiny else next(tokens for least, tokens in BUDGETS.items() if free >= least)
    lengths = {"tiny": gpu_model.TINY} if tiny else {"hh": task.LENGTHS, "long": gpu_model.LONG}
    return Place(device, tiny, gpu_model.DRY_SHAPE if tiny else gpu_model.SHAPE, lengths, budget)


JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    "machine": machine,
    "equality": gpu_measure.equality,
    "gemm": gpu_measure.gemm,
    "shapes": gpu_measure.shapes,
    "ours": gpu_train.ours,
    "trl": gpu_measure.trl,
}


def done(place: Place, job: dict[str, Any]) -> dict[str, Any]:
    """Return what a job found; an error is an answer too, and `broken` says that the process is of no further use."""
    try:
        return JOBS[job.pop("job")](place, **job)
    except torch.OutOfMemoryError as error:
        peak = torch.cuda.max_memory_allocated() / 2**30 if place.device.type == "cuda" else 0.0
        traceback.clear_frames(error.__traceback__)  # which hold the tensors
        return {"failed": f"out of memory at {peak:.0f} GiB"}
    except Exception as error:
        traceback.print_exc()
        said = " ".join(str(error).split())
        traceback.clear_frames(error.__traceback__)
        return {"failed": f"{type(error).__name__}: {said}"[:400], "broken": any(word in said for word in BROKEN)}


def main() -> None:
    """Answer jobs until there are no more; whatever libraries print goes where errors go."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true")
    place = here(tiny=parser.parse_args().tiny)
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            print(json.dumps(done(place, json.loads(line))), file=answers, flush=True)
            place.fresh()


if __name__ == "__main__":
    main()
