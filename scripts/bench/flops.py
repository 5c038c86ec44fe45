"""Floating-point operations: what a contestant's way of computing needs, and what a plain matrix product reaches here."""

import statistics
import time
from typing import Any

import torch

from scripts.bench import task
from scripts.bench.task import Result


def weights(layers: int, size: int = 512) -> dict[str, int]:
    """Return the elements of the task's matrices: of the body, of the head, of LoRA's A and B over the body's.

    >>> weights(layers=8)
    {'body': 24117248, 'head': 16384000, 'lora': 1212416}
    """
    keys, inner = size // 4, 3 * size
    shapes = [(size, size), (size, keys), (size, keys), (size, size), (size, inner), (size, inner), (inner, size)]
    return {
        "body": layers * sum(rows * columns for rows, columns in shapes),
        "head": size * task.VOCABULARY,
        "lora": layers * sum(task.LORA_RANK * (rows + columns) for rows, columns in shapes),
    }


def training(result: Result) -> float:
    """Return the operations of one training epoch over all pairs, in GFLOP.

    2 x (positions through the body x products x weights of the body + the same of the head): a product is the forward one,
    the gradient by the input, the gradient by the weight (not with LoRA), or one that is computed again. LoRA's own
    matrices need the gradient by the weight too. Attention is left out: a tenth at these lengths.
    """
    count = weights(result.options["layers"])
    body = result.body_products * count["body"]
    if result.options["adapter"] == "lora":
        body += (result.body_products + 1) * count["lora"]
    return 2e-9 * (result.body_tokens * body + result.head_tokens * result.head_products * count["head"])


def reference(result: Result) -> float:
    """Return the operations of scoring all pairs once under the reference, in GFLOP: one product per position."""
    count = weights(result.options["layers"])
    return 2e-9 * (result.body_tokens * count["body"] + result.head_tokens * count["head"])


def gemm_rate(precision: str, size: int = 2048, repetitions: int = 5) -> float:
    """Return the GFLOP per CPU second of a square matrix product in a number format, the median of some."""
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    left, right = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    left @ right
    seconds = []
    for _ in range(repetitions):
        began = time.process_time()
        left @ right
        seconds.append(time.process_time() - began)
    return 2e-9 * size**3 / statistics.median(seconds)


def instructions() -> dict[str, Any]:
    """Return which matrix instructions this processor has."""
    return {"capability": torch.backends.cpu.get_cpu_capability(), "amx": torch.cpu._is_amx_tile_supported()}
