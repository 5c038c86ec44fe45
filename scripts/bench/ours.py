"""DPO Lab on the common task, under Lightning or as a plain loop of the same module. Run as `python -m scripts.bench.ours`."""

import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch import nn

from dpo_lab.components import component
from dpo_lab.layouts.base import Layout
from dpo_lab.layouts.packed import PackedLayout
from dpo_lab.layouts.padded import PaddedLayout
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.adapter import LoRA, NoAdapter
from dpo_lab.models.precision import Precision
from dpo_lab.progress import Part
from dpo_lab.reference.cached import CachedReference, reference_pass
from dpo_lab.scoring.fitting import Fit, fitted
from dpo_lab.tokens.store import StoreBuilder, TokenStore
from dpo_lab.training.batches import Batches, item_batches
from dpo_lab.training.callbacks import RunCallback, Running
from dpo_lab.training.fit import fit
from dpo_lab.training.module import PreferenceModule
from dpo_lab.training.optim import AdamW
from dpo_lab.training.settings import TrainerSettings
from dpo_lab.training.steps import StepFigures
from scripts.bench import task
from scripts.bench.meter import Meter
from scripts.bench.task import Options, Pair, Result

LAYOUTS: dict[str, type[Layout]] = {"padded": PaddedLayout, "packed": PackedLayout, "prefix": PrefixLayout}
CPU = torch.device("cpu")
Figures = list[dict[str, float]]


def token_store(pairs: Sequence[Pair]) -> TokenStore:
    """Return pairs as a token store."""
    builder = StoreBuilder()
    for pair in pairs:
        chosen, rejected = (builder.add_response(pair.prompt, response) for response in (pair.chosen, pair.rejected))
        builder.add_item([chosen, rejected])
    return builder.build()


class EpochClock(L.Callback):
    """Lets a meter count whole epochs, and keeps the figures of every step."""

    def __init__(self, meter: Meter, steps: Figures) -> None:
        self.meter, self.steps = meter, steps

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start the epoch's counting."""
        self.meter.begin_epoch()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Keep the epoch's seconds."""
        self.meter.end_epoch()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Keep what the run's own callback has just collected."""
        callbacks: list[Any] = getattr(trainer, "callbacks", [])
        self.steps.extend(callback.newest for callback in callbacks if isinstance(callback, StepFigures))


def under_lightning(module: PreferenceModule, batches: Batches, precision: Precision, meter: Meter) -> Figures:
    """Train as `python train.py` does; return the figures of every step."""
    steps: Figures = []

    @component
    class Clock(RunCallback):
        """Builds the clock of this run."""

        def build(self, running: Running) -> L.Callback:
            return EpochClock(meter, steps)

    settings = TrainerSettings(accelerator="cpu", epochs=batches.epochs, batch_size=task.PAIRS_PER_STEP)
    with tempfile.TemporaryDirectory() as directory:
        part = Part("bench", batches.total_steps)
        fit(module, batches, settings, precision, part=part, directory=Path(directory), callbacks=[Clock()])
    return steps


def plain_loop(module: PreferenceModule, batches: Batches, precision: Precision, meter: Meter) -> Figures:
    """Train the same module without Lightning; return the figures of every step."""
    made: Any = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]
    trained = [weight for weight in module.policy.parameters() if weight.requires_grad]
    steps: Figures = []
    for epoch in range(batches.epochs):
        meter.begin_epoch()
        batches.sampler.set_epoch(epoch)
        for step in batches.train_dataloader():
            with precision.autocast(CPU):
                terms = sum(map(module.num_terms, step))
                for micro_batch in step:
                    module.micro_batch_loss(micro_batch, terms).backward()
            norm = nn.utils.clip_grad_norm_(trained, float("inf"))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            module.share_figures()
            steps.append({**module.collect(), "grad_norm": float(norm)})
        meter.end_epoch()
    return steps


def timed_reference(
    model: nn.Module, store: TokenStore, how: Fit, context: AbstractContextManager[Any], root: Path | None = None
) -> tuple[Any, float]:
    """Return the cached reference and the CPU seconds of making it: forwards, digests of weights and ids, the file.

    Args:
        root: where a pass is kept; one that is there already is audited and used. None: nothing is kept.
    """
    began = time.process_time()
    with tempfile.TemporaryDirectory() as directory, context:
        scorer, _ = reference_pass(model, store, how, CachedReference(), root=root or Path(directory), name="bench")
    return scorer, time.process_time() - began


def train(
    options: Options,
    layout: str,
    budget: int,
    loop: Literal["lightning", "plain"],
    *,
    store: TokenStore | None = None,
    root: Path | None = None,
) -> Result:
    """Train for the epochs to warm up and then the timed ones.

    Args:
        store: the pairs, where another training has them already.
        root: where the reference pass is kept for other trainings on them.
    """
    store, model = store or token_store(options.pairs()), task.language_model(options.layers)
    how = fitted(model, LAYOUTS[layout](), store)
    if how.notes:
        raise SystemExit(f"layout {layout} is not what would be measured: {how.notes}")
    precision = Precision(mode="bf16-mixed" if options.bf16 else "fp32")
    scorer, reference_seconds = timed_reference(model, store, how, precision.autocast(CPU), root)
    lora = options.adapter == "lora"
    policy = (LoRA(rank=task.LORA_RANK, alpha=task.LORA_ALPHA) if lora else NoAdapter()).attach(model, seed=0)
    task.set_adapter(policy)
    batches = item_batches(
        *(store, how.layout),
        batch_size=task.PAIRS_PER_STEP,
        token_budget=budget,
        epochs=options.epochs,
        seed=0,
        order="as_given",
    )
    optim = AdamW(lr=options.learning_rate, warmup=0.0, schedule="constant", clip=None)
    module = PreferenceModule(policy, scorer, DPOLoss(beta=options.beta), optim, total_steps=batches.total_steps, seed=0)
    meter = Meter()
    run = under_lightning if loop == "lightning" else plain_loop
    steps = run(module, batches, precision, meter)[: options.compared]
    rows = [micro_batch.rows for step in batches.train_dataloader() for micro_batch in step]
    return Result(
        contestant="ours",
        options={**vars(options), "layout": layout, "token_budget": budget, "loop": loop},
        losses=[figures["loss"] for figures in steps],
        grad_norms=[figures["grad_norm"] for figures in steps],
        epoch_seconds=meter.epoch_seconds[options.warm_up :],
        reference_seconds=[reference_seconds],
        reference_cached=True,
        body_tokens=sum(row.inputs["input_ids"].numel() for row in rows),
        head_tokens=sum(len(row.targets) for row in rows),
        body_products=2 if lora else 3,
        head_products=2 if lora else 3,  # as long as a micro-batch's response tokens fit one chunk of the head
    )


if __name__ == "__main__":
    command_line = task.parser()
    command_line.add_argument("--layout", choices=tuple(LAYOUTS), default="prefix")
    command_line.add_argument("--token-budget", type=int, default=2048)
    command_line.add_argument("--loop", choices=("lightning", "plain"), default="lightning")
    asked = command_line.parse_args()
    train(task.options(asked), asked.layout, asked.token_budget, asked.loop).emit("lightning", "peft")
