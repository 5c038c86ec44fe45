"""What the two peers have in common: both build on the Trainer of transformers."""

from typing import Any

from transformers import TrainerCallback

from scripts.bench import task
from scripts.bench.meter import Meter
from scripts.bench.task import Options, Result


class EpochClock(TrainerCallback):
    """Lets a meter count whole epochs: batches, forwards, backwards, optimizer and what the trainer does around them."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Start the epoch's counting."""
        self.meter.begin_epoch()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Keep the epoch's seconds."""
        self.meter.end_epoch()


def arguments(options: Options, directory: str) -> dict[str, Any]:
    """Return the arguments that both peers are given: the task itself, and nothing written or sent.

    A clip at 1e9 changes nothing, but makes the trainer compute the norm of the gradient, as it does by default.
    """
    return {
        "output_dir": directory,
        "num_train_epochs": options.epochs,
        "per_device_train_batch_size": options.micro_batch,
        "gradient_accumulation_steps": task.PAIRS_PER_STEP // options.micro_batch,
        "learning_rate": options.learning_rate,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "adam_beta2": 0.999,
        "max_grad_norm": 1e9,
        "use_cpu": True,
        "bf16": options.bf16,
        "fp16": False,
        "beta": options.beta,
        "max_length": 1024,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def result(
    name: str,
    options: Options,
    meter: Meter,
    history: list[dict[str, Any]],
    *,
    body_products: int,
    head_products: int,
    **others: Any,
) -> Result:
    """Return what a peer reports, given the trainer's log and the products that its settings make it compute."""
    steps = [line for line in history if "loss" in line][: options.compared]
    values = {
        "reference_seconds": meter.reference_seconds[options.warm_up :],
        "reference_cached": False,
        "body_tokens": meter.body_tokens,
        "head_tokens": meter.head_tokens,
        **others,
    }
    return Result(
        contestant=name,
        options=vars(options),
        losses=[line["loss"] for line in steps],
        grad_norms=[line["grad_norm"] for line in steps],
        epoch_seconds=meter.epoch_seconds[options.warm_up :],
        body_products=body_products,
        head_products=head_products,
        **values,
    )
