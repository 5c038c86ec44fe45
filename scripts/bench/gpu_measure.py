"""The measurements of gpu_check.sh other than our training: gradients against padded rows, a plain product, new shapes, TRL."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from dpo_lab.layouts.base import Kernel, Layout, ResponseBatch, lacking
from dpo_lab.layouts.packed import PackedLayout
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.scoring.fitting import fitted, read_segments
from dpo_lab.scoring.logps import PairLogps
from dpo_lab.scoring.score import score
from scripts.bench import gpu_model, gpu_peer
from scripts.bench.gpu_model import Lengths

Found = dict[str, Any]
HALF = torch.bfloat16
EXACT = 1e-4
"""Largest difference of a gradient in float32, relative to its norm, that counts as equal."""
TIMES, FLOOR = 2.0, 1e-2
"""In half precision a gradient may be so many times as far from float32's as that of padded rows in it, and this much more."""
FORMATS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Number formats of products; None is that of the weights."""
SCALE = {"fp32": 1.0, "bf16": 1.0, "fp16": 1024.0}
"""What a loss is multiplied by on the way back, so that fp16 resolves small gradients."""


SHAPES = 5
"""Lengths of a row that are new after the first."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where and on what everything is measured."""

    device: torch.device
    tiny: bool
    shape: dict[str, Any]
    """Of the model that is timed."""
    lengths: dict[str, Lengths]
    budget: int
    """Tokens of a micro-batch through the body."""

    @property
    def small(self) -> dict[str, Any]:
        """The shape of the model whose gradients are compared."""
        return gpu_model.DRY_SHAPE if self.tiny else gpu_model.TINY_SHAPE

    @property
    def gate(self) -> Lengths:
        """The lengths of the pairs by which gradients are compared; blocks of 128 are of no concern to what a CPU has."""
        return gpu_model.TINY if self.tiny else gpu_model.GATE

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def fresh(self) -> None:
        """Give back what is not held any more, and forget the peak."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_gib(self) -> float | None:
        """Return the most memory in tensors since it was forgotten."""
        return torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else None

    def seconds(self, work: Callable[[], object]) -> float:
        """Return how long some work takes on the device."""
        self.wait()
        began = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - began


def made(layout: str, kernel: Kernel) -> Layout:
    """Return a layout by name."""
    if layout == "padded":
        return PaddedLayout()
    return {"prefix": PrefixLayout, "packed": PackedLayout}[layout](attention=kernel)


@cache
def true_gradients(place: Place, precision: str) -> dict[str, Tensor]:
    """Return the gradients of padded rows."""
    return gradients(place, PaddedLayout(), precision)


def gradients(place: Place, layout: Layout, precision: str) -> dict[str, Tensor]:
    """Return the gradients of every weight of a small model, in one layout, against a reference of zeros."""
    store = gpu_model.token_store(gpu_model.pairs(place.gate, place.small))
    model = gpu_model.mistral(place.small, place.device, torch.float32)
    fit = fitted(model, layout, store)
    if fit.layout is not layout:
        raise RuntimeError("; ".join(fit.notes))
    batch = layout.items(store, range(store.num_pairs)).to(place.device)
    with products_in(place, precision):
        logps = PairLogps(score(model, batch.rows), batch.pairs)
    (SCALE[precision] * -nn.functional.logsigmoid(0.01 * logps.margin).mean()).backward()
    return {name: weight.grad / SCALE[precision] for name, weight in model.named_parameters() if weight.grad is not None}


def products_in(place: Place, precision: str) -> torch.autocast:
    """Return the context in which matrix products have a number format."""
    half = FORMATS[precision]
    return torch.autocast(place.device.type, half or HALF, enabled=half is not None)


def gaps(found: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, float]:
    """Return how far each gradient is from the true one, relative to its norm; infinite where there is none."""
    missing = torch.tensor(float("inf"))
    return {name: float((found[name] - each).norm() / each.norm() if name in found else missing) for name, each in truth.items()}


def equality(place: Place, layout: str, kernel: Kernel, precision: str) -> Found:
    """Return whether the gradients of a layout are those of padded rows: the worst gap, and what was allowed there."""
    if reason := lacking(kernel) if place.device.type == "cuda" else "":
        return {"failed": reason}
    truth = true_gradients(place, "fp32")
    found = gaps(gradients(place, made(layout, kernel), precision), truth)
    allowed = dict.fromkeys(truth, EXACT)
    if precision != "fp32":
        padded = gaps(true_gradients(place, precision), truth)
        allowed = {name: TIMES * gap + FLOOR for name, gap in padded.items()}
    worst = max(found, key=lambda name: found[name] / allowed[name] if found[name] == found[name] else float("inf"))
    shown = found[worst] if found[worst] < float("inf") else None  # JSON has no infinity and no NaN
    equal = shown is not None and shown <= allowed[worst]
    return {"equal": equal, "weight": worst, **({"gap": shown} if shown is not None else {}), "allowed": allowed[worst]}


def gemm(place: Place) -> Found:
    """Return the speed of a square bf16 product of random numbers, the median of some."""
    size, some = (512, 2) if place.tiny else (8192, 10)
    left, right = (torch.randn(size, size, device=place.device, dtype=HALF) for _ in range(2))
    result = torch.empty_like(left)

    def products() -> None:
        for _ in range(some):
            torch.mm(left, right, out=result)

    seconds = [place.seconds(products) for _ in range(8)]
    return {"tflops": 2e-12 * some * size**3 / statistics.median(seconds[3:])}


def shapes(place: Place, layout: str, kernel: Kernel) -> Found:
    """Return the seconds of a forward and backward pass of a row whose length is the first, a new one, and one seen before."""
    rows = made(layout, kernel)
    model = gpu_model.mistral(place.small, place.device, torch.float32)
    batches: list[ResponseBatch] = []
    for longer in range((1 if place.tiny else SHAPES) + 1):
        lengths = tuple((prompt, chosen + 37 * longer, rejected) for prompt, chosen, rejected in place.gate)
        store = gpu_model.token_store(gpu_model.pairs(lengths, place.small))
        if not batches and (reason := read_segments(model, rows)):
            raise RuntimeError(reason)
        batches.append(rows.rows(store, range(2 * len(lengths))).to(place.device))

    def seconds(batch: ResponseBatch) -> float:
        def work() -> None:
            with products_in(place, "bf16"):
                total = score(model, batch).per_token.sum()
            total.backward()

        return place.seconds(work)

    first, *new = [seconds(batch) for batch in batches]
    again = [seconds(batch) for batch in batches[1:]]
    return {"first_seconds": first, "new_seconds": statistics.median(new), "again_seconds": statistics.median(again)}


def trl(place: Place, variant: str, lengths: str, quant: str) -> Found:
    """Train the same adapter by TRL; `quant` is always none."""
    pairs = gpu_model.pairs(place.lengths[lengths], place.shape)
    model = gpu_model.mistral(place.shape, place.device, HALF)
    place.fresh()
    try:
        speed, tokens, loss = gpu_peer.measure(model, pairs, variant, place.budget, place.wait)
    except (AttributeError, ImportError, KeyError, TypeError) as error:
        raise RuntimeError(f"this TRL has another interface than {gpu_peer.WRITTEN_FOR}: {error}") from error
    return {"pairs_per_second": speed, "tokens_per_second": tokens, "peak_gib": place.peak_gib(), "loss": loss}
