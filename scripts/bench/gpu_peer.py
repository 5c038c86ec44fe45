"""TRL's DPOTrainer on the task of gpu_check.sh, as it is or tuned, in the same process."""

import importlib
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from scripts.bench import task

EPOCHS = 6  # the first two warm up
WRITTEN_FOR = "1.16"
"""The version of TRL whose interface is used, a private method among it."""


class Clock(TrainerCallback):
    """Keeps the seconds of whole epochs."""

    def __init__(self, wait: Callable[[], None]) -> None:
        self.wait, self.seconds = wait, list[float]()
        self._began = 0.0

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.wait()
        self._began = time.perf_counter()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Stop the clock."""
        self.wait()
        self.seconds.append(time.perf_counter() - self._began)


def available() -> bool:
    """Return whether TRL is installed."""
    return importlib.util.find_spec("trl") is not None


def pairs_at_a_time(pairs: list[task.Pair], budget: int) -> int:
    """Return how many pairs fit the budget of tokens that our micro-batches have, padding included: a power of two."""
    longest = max(len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) for pair in pairs)
    fit = max(1, min(len(pairs), budget // (2 * longest)))
    return 1 << fit.bit_length() - 1


def measure(
    model: Any, pairs: list[task.Pair], variant: str, budget: int, wait: Callable[[], None]
) -> tuple[float, float, float]:
    """Return pairs per second, tokens per second and the last loss; `tuned`: reference precomputed, no checkpointing."""
    size = pairs_at_a_time(pairs, budget)
    trl, peft = importlib.import_module("trl"), importlib.import_module("peft")
    tuned: dict[str, Any] = {"gradient_checkpointing": False, "precompute_ref_log_probs": True} if variant == "tuned" else {}
    clock = Clock(wait)
    rows = [{"prompt_ids": pair.prompt, "chosen_ids": pair.chosen, "rejected_ids": pair.rejected} for pair in pairs]
    adapter = peft.LoraConfig(
        r=task.LORA_RANK, lora_alpha=task.LORA_ALPHA, target_modules=list(task.LORA_TARGETS), task_type="CAUSAL_LM"
    )
    kept = trl.DPOTrainer._prepare_dataset
    trl.DPOTrainer._prepare_dataset = lambda self, dataset, *_: dataset  # the ids are given
    try:
        with tempfile.TemporaryDirectory() as directory:
            settings = trl.DPOConfig(
                output_dir=directory,
                num_train_epochs=EPOCHS,
                per_device_train_batch_size=size,
                gradient_accumulation_steps=-(-len(pairs) // size),
                learning_rate=1e-5,
                beta=task.BETA,
                bf16=True,
                use_cpu=next(model.parameters()).device.type == "cpu",
                max_length=2048,
                logging_steps=1,
                save_strategy="no",
                disable_tqdm=True,
                report_to="none",
                **tuned,
            )
            trainer = trl.DPOTrainer(
                model=model,
                args=settings,
                train_dataset=importlib.import_module("datasets").Dataset.from_list(rows),
                processing_class=task.tokenizer(),
                peft_config=adapter,
                callbacks=[clock],
            )
            trainer.train()
    finally:
        trl.DPOTrainer._prepare_dataset = kept
    took = statistics.median(clock.seconds[2:])
    tokens = sum(2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs)
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return len(pairs) / took, tokens / took, losses[-1]
