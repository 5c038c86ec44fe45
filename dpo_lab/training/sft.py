"""Supervised fine-tuning of the tiny model: examples once, in order, the head on answer tokens only."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from dpo_lab.layouts.base import Layout
from dpo_lab.models.precision import Precision
from dpo_lab.models.spec import TinyModel
from dpo_lab.progress import part
from dpo_lab.records import Prompt
from dpo_lab.seeding import random_for
from dpo_lab.tokens.build import tokenise_examples
from dpo_lab.training.batches import Batches, StepSampler
from dpo_lab.training.callbacks import Checkpoint, ProgressBar, Throughput
from dpo_lab.training.fit import fit
from dpo_lab.training.module import SFTModule
from dpo_lab.training.optim import AdamW
from dpo_lab.training.settings import TrainerSettings

WINDOW = 16  # batches whose examples are sorted by length together: little padding, the curriculum still holds


def fine_tune(
    model: nn.Module,
    tokenizer: Any,
    examples: list[tuple[Prompt, str]],
    spec: TinyModel,
    layout: Layout,
    seed: int,
    directory: Path,
    checkpoint: Checkpoint = Checkpoint(),  # noqa: B008
) -> dict[str, float]:
    """Train a model on examples in their order and return the last step's figures; the model changes in place.

    Args:
        checkpoint: how often it is saved, and how many stay. The best step by a figure is not kept: the figures of
            preferences, which it names, do not exist here.
    """
    store, order = tokenise_examples(examples, tokenizer)
    plan = windowed(order, store.row_lengths.tolist(), spec.sft_batch_size, seed)
    sampler = StepSampler(lambda epoch: plan, lambda step: [step], epochs=1)
    optim = AdamW(lr=spec.sft_lr, betas=(0.9, 0.98), weight_decay=0.01, warmup=0.05, schedule="flat_then_linear")
    batches = Batches(sampler, lambda responses: layout.rows(store, responses))
    module = SFTModule(model, optim, batches.total_steps, seed)
    settings = TrainerSettings(batch_size=spec.sft_batch_size, log_every=20, accelerator="cpu")
    with part("pretrain", batches.total_steps) as shown:
        callbacks = [ProgressBar(), Throughput(), replace(checkpoint, best="", final="last")]
        figures = fit(module, batches, settings, Precision(mode="fp32"), part=shown, directory=directory, callbacks=callbacks)
    return figures.newest


def windowed(order: list[int], lengths: list[int], batch_size: int, seed: int) -> list[list[int]]:
    """Split examples into batches: windows of 16 batches in order, inside each sorted by length and shuffled by batch."""
    shuffle = random_for(seed, "sft")
    batches: list[list[int]] = []
    for start in range(0, len(order), batch_size * WINDOW):
        window = sorted(order[start : start + batch_size * WINDOW], key=lengths.__getitem__)
        inside = [window[first : first + batch_size] for first in range(0, len(window), batch_size)]
        shuffle.shuffle(inside)
        batches += inside
    return batches
