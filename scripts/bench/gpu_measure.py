"""The measurements of gpu_check.sh: gradients against those of padded rows, a plain product, ours in every layout, TRL."""

import gc
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from dpo_lab.layouts.base import Kernel, Layout, lacking
from dpo_lab.layouts.packed import PackedLayout
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.adapter import LoRA
from dpo_lab.models.load import evaluating
from dpo_lab.reference.cached import CachedScorer
from dpo_lab.scoring.fitting import fitted, read_segments
from dpo_lab.scoring.logps import PairLogps
from dpo_lab.scoring.passes import score_store
from dpo_lab.scoring.score import score
from dpo_lab.training.batches import micro_batches
from dpo_lab.training.optim import AdamW
from scripts.bench import gpu_model, gpu_peer, task
from scripts.bench.gpu_model import Lengths

Found = dict[str, Any]
HALF = torch.bfloat16
EXACT = 1e-4
"""Largest difference of a gradient in float32, relative to its norm, that counts as equal."""
TIMES, FLOOR = 2.0, 1e-2
"""In bf16 a gradient may be so many times as far from float32's as that of padded rows in bf16, and this much more."""
WARM, TIMED, ENOUGH = 2, 6, 6.0
"""Epochs that are not timed, epochs that are, and seconds of the latter after which no further one begins."""


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
def true_gradients(place: Place, *, half: bool) -> dict[str, Tensor]:
    """Return the gradients of padded rows."""
    return gradients(place, PaddedLayout(), half=half)


def gradients(place: Place, layout: Layout, *, half: bool) -> dict[str, Tensor]:
    """Return the gradients of every weight of a small model, in one layout, against a reference of zeros."""
    store = gpu_model.token_store(gpu_model.pairs(gpu_model.GATE))
    model = gpu_model.mistral(gpu_model.TINY_SHAPE, place.device, torch.float32)
    fit = fitted(model, layout, store)
    if fit.layout is not layout:
        raise RuntimeError("; ".join(fit.notes))
    batch = layout.items(store, range(store.num_pairs)).to(place.device)
    with torch.autocast(place.device.type, HALF, enabled=half):
        logps = PairLogps(score(model, batch.rows), batch.pairs)
    (-nn.functional.logsigmoid(0.01 * logps.margin).mean()).backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def gaps(found: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, float]:
    """Return how far each gradient is from the true one, relative to its norm; infinite where there is none."""
    missing = torch.tensor(float("inf"))
    return {name: float((found[name] - each).norm() / each.norm() if name in found else missing) for name, each in truth.items()}


def equality(place: Place, layout: str, kernel: Kernel, precision: str) -> Found:
    """Return whether the gradients of a layout are those of padded rows: the worst gap, and what was allowed there."""
    if reason := lacking(kernel) if place.device.type == "cuda" else "":
        return {"failed": reason}
    truth = true_gradients(place, half=False)
    half = precision == "bf16"
    found = gaps(gradients(place, made(layout, kernel), half=half), truth)
    allowed = dict.fromkeys(truth, EXACT)
    if half:
        padded = gaps(true_gradients(place, half=True), truth)
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


def ours(place: Place, layout: str, kernel: Kernel, lengths: str, quant: str) -> Found:
    """Train an adapter on a random 7B, one optimizer step an epoch; the reference is scored before."""
    some = gpu_model.pairs(place.lengths[lengths])
    store, rows = gpu_model.token_store(some), made(layout, kernel)
    model = gpu_model.mistral(place.shape, place.device, HALF)
    if quant == "4bit":
        model = gpu_model.in_4_bits(model, HALF)
    if reason := read_segments(model, rows):
        raise RuntimeError(reason)
    place.fresh()  # the peak is that of training, not that of drawing and quantising weights

    def scored() -> Tensor:
        with evaluating(model), torch.autocast(place.device.type, HALF):
            return score_store(partial(score, model), store, rows, place.device).per_token

    scorer = CachedScorer(scored(), store).to(place.device)  # warms up, compiles
    reference_seconds = place.seconds(scored)
    policy = LoRA(rank=task.LORA_RANK, alpha=task.LORA_ALPHA).attach(model, seed=0)
    batches = [
        rows.items(store, each).to(place.device) for each in micro_batches(range(store.num_pairs), store, rows, place.budget)
    ]
    trained = [weight for weight in policy.parameters() if weight.requires_grad]
    optimizer, loss = AdamW(lr=1e-5).optimizer(trained), DPOLoss(beta=task.BETA)
    losses: list[Tensor] = []

    def epoch() -> None:
        total = torch.zeros((), device=place.device)
        for batch in batches:
            with torch.autocast(place.device.type, HALF):
                logps = PairLogps(score(policy, batch.rows), batch.pairs)
            each = loss(logps, PairLogps(scorer(batch.rows), batch.pairs)).sum() / store.num_pairs
            each.backward()
            total += each.detach()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(total)

    seconds = timed(place, epoch)
    took, first = statistics.median(seconds), float(losses[len(losses) - len(seconds)])
    if not math.isfinite(first):
        raise RuntimeError(f"the loss is {first}")
    return {
        "pairs_per_second": store.num_pairs / took,
        # prompt and response counted once per row, whatever the layout: the same unit for everyone
        "tokens_per_second": sum(2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in some) / took,
        "peak_gib": place.peak_gib(),
        "operations_per_second": gpu_model.operations(policy, batches) / took,
        "reference_seconds": reference_seconds,
        "loss": first,
        "epoch_seconds": seconds,
        "micro_batches": len(batches),
    }


def timed(place: Place, epoch: Callable[[], None]) -> list[float]:
    """Return the seconds of epochs after some that warm up and compile."""
    for _ in range(1 if place.tiny else WARM):
        epoch()
    seconds: list[float] = []
    while len(seconds) < (1 if place.tiny else TIMED) and sum(seconds) < ENOUGH:
        seconds.append(place.seconds(epoch))
    return seconds


def trl(place: Place, variant: str, lengths: str, quant: str) -> Found:
    """Train the same adapter by TRL; `quant` is always none."""
    pairs = gpu_model.pairs(place.lengths[lengths])
    model = gpu_model.mistral(place.shape, place.device, HALF)
    place.fresh()
    try:
        speed, tokens, loss = gpu_peer.measure(model, pairs, variant, place.budget, place.wait)
    except (AttributeError, ImportError, KeyError, TypeError) as error:
        raise RuntimeError(f"this TRL has another interface than {gpu_peer.WRITTEN_FOR}: {error}") from error
    return {"pairs_per_second": speed, "tokens_per_second": tokens, "peak_gib": place.peak_gib(), "loss": loss}
