"""Our training of a random 7B in gpu_check.sh: LoRA, QLoRA or in full, in bf16 or fp16, with and without checkpointing."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dpo_lab.layouts.base import ItemBatch, Kernel
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.adapter import LoRA, NoAdapter
from dpo_lab.models.checkpointing import recompute_layers
from dpo_lab.models.load import evaluating
from dpo_lab.reference.cached import CachedScorer
from dpo_lab.scoring.fitting import read_segments
from dpo_lab.scoring.logps import PairLogps
from dpo_lab.scoring.passes import score_store
from dpo_lab.scoring.score import score
from dpo_lab.training.batches import micro_batches
from dpo_lab.training.optim import AdamW
from scripts.bench import gpu_model, task
from scripts.bench.gpu_measure import FORMATS, Found, Place, made, products_in

WARM, TIMED, ENOUGH = 2, 6, 6.0
"""Epochs that are not timed, epochs that are, and seconds of the latter after which no further one begins."""


def ours(
    place: Place,
    layout: str,
    kernel: Kernel,
    lengths: str,
    quant: str,
    adapter: str = "lora",
    precision: str = "bf16",
    checkpointing: bool = False,
) -> Found:
    """Train a random 7B, one optimizer step an epoch; the reference is scored before.

    Weights have the number format of the products: those of a frozen base, and in full training all of them.
    """
    some = gpu_model.pairs(place.lengths[lengths], place.shape)
    store, rows, half = gpu_model.token_store(some), made(layout, kernel), FORMATS[precision] or torch.float32
    model = gpu_model.mistral(place.shape, place.device, half)
    if quant == "4bit":
        model = gpu_model.in_4_bits(model, half)
    if reason := read_segments(model, rows):
        raise RuntimeError(reason)
    place.fresh()  # the peak is that of training, not that of drawing and quantising weights

    def scored() -> Tensor:
        with evaluating(model), products_in(place, precision):
            return score_store(partial(score, model), store, rows, place.device).per_token

    scorer = CachedScorer(scored(), store).to(place.device)  # warms up, compiles
    reference_seconds = place.seconds(scored)
    kind = LoRA(rank=task.LORA_RANK, alpha=task.LORA_ALPHA) if adapter == "lora" else NoAdapter()
    policy = kind.attach(model, seed=0)
    if checkpointing:
        recompute_layers(policy)
    batches = [
        rows.items(store, batch).to(place.device) for batch in micro_batches(range(store.num_pairs), store, rows, place.budget)
    ]
    training = Training(place, policy, scorer, batches, precision)
    seconds = timed(place, training.epoch)
    took, first = statistics.median(seconds), float(training.losses[len(training.losses) - len(seconds)])
    if not math.isfinite(first):
        raise RuntimeError(f"the loss is {first}")
    if training.skipped == len(training.losses):
        raise RuntimeError(f"the gradients of all {training.skipped} steps overflowed")
    tokens = gpu_model.forwarded(batches)
    return {
        "pairs_per_second": store.num_pairs / took,
        # prompt and response counted once per row, whatever the layout: the same unit for everyone
        "tokens_per_second": sum(2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in some) / took,
        "forwarded_per_second": tokens / took,
        "peak_gib": place.peak_gib(),
        "operations_per_second": gpu_model.operations(gpu_model.weights(policy), tokens, adapter) / took,
        "reference_seconds": reference_seconds,
        "loss": first,
        "epoch_seconds": seconds,
        "micro_batches": len(batches),
        "skipped_steps": training.skipped,
    }


@dataclass
class Training:
    """A policy, its pairs, and what an optimizer step over all of them does."""

    place: Place
    policy: nn.Module
    scorer: CachedScorer
    batches: list[ItemBatch]
    precision: str

    def __post_init__(self) -> None:
        self.losses: list[Tensor] = []
        self.skipped = 0
        """Steps that changed nothing, as a gradient overflowed in fp16."""
        self._trained = [weight for weight in self.policy.parameters() if weight.requires_grad]
        self._optimizer, self._loss = AdamW(lr=1e-5).optimizer(self._trained), DPOLoss(beta=task.BETA)
        self._scaler = torch.amp.GradScaler(self.place.device.type, enabled=self.precision == "fp16")

    def epoch(self) -> None:
        """Take one step over all pairs."""
        pairs = sum(map(len, self.batches))
        total = torch.zeros((), device=self.place.device)
        for batch in self.batches:
            with products_in(self.place, self.precision):
                logps = PairLogps(score(self.policy, batch.rows), batch.pairs)
            each = self._loss(logps, PairLogps(self.scorer(batch.rows), batch.pairs)).sum() / pairs
            scaled: Any = self._scaler.scale(each)
            scaled.backward()
            total += each.detach()
        self._scaler.unscale_(self._optimizer)
        nn.utils.clip_grad_norm_(self._trained, 1.0)
        before = self._scaler.get_scale()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self.skipped += self._scaler.get_scale() < before
        self._optimizer.zero_grad(set_to_none=True)
        self.losses.append(total)


def timed(place: Place, epoch: Callable[[], None]) -> list[float]:
    """Return the seconds of epochs after some that warm up and compile."""
    for _ in range(1 if place.tiny else WARM):
        epoch()
    seconds: list[float] = []
    while len(seconds) < (1 if place.tiny else TIMED) and sum(seconds) < ENOUGH:
        seconds.append(place.seconds(epoch))
    return seconds
