"""TRL's DPOTrainer on the common task, as it is or tuned. Run as `python -m scripts.bench.peer_trl` where TRL is installed.

`defaults`: reference model in every step, gradient checkpointing. `best`: reference precomputed, no checkpointing, the
micro-batch of the command line. TRL's own tokenisation is left out, so that it trains on the same ids.
"""

import importlib
import tempfile
from typing import Any

from scripts.bench import task
from scripts.bench.meter import Meter
from scripts.bench.peer_trainer import EpochClock, arguments, result
from scripts.bench.task import Options, Pair, Result


def rows(pairs: list[Pair]) -> Any:
    """Return the pairs in the columns that TRL's collator reads."""
    datasets = importlib.import_module("datasets")
    return datasets.Dataset.from_list(
        [{"prompt_ids": pair.prompt, "chosen_ids": pair.chosen, "rejected_ids": pair.rejected} for pair in pairs]
    )


def adapter() -> Any:
    """Return PEFT's description of the common LoRA."""
    peft = importlib.import_module("peft")
    return peft.LoraConfig(
        r=task.LORA_RANK, lora_alpha=task.LORA_ALPHA, target_modules=list(task.LORA_TARGETS), task_type="CAUSAL_LM"
    )


def build(options: Options, directory: str, meter: Meter) -> tuple[Any, float]:
    """Return the trainer, and the CPU seconds of the reference pass if it precomputed one."""
    trl = importlib.import_module("trl")
    tuned, lora = options.variant == "best", options.adapter == "lora"
    policy = task.language_model(options.layers)
    reference = None if tuned or lora else task.language_model(options.layers)
    settings = trl.DPOConfig(
        **arguments(options, directory),
        **({"gradient_checkpointing": False, "precompute_ref_log_probs": True} if tuned else {}),
        report_to="none",
        train_sampling_strategy="sequential",
    )
    trl.DPOTrainer._prepare_dataset = lambda self, dataset, *_: dataset
    trl.DPOTrainer.compute_ref_log_probs = meter.timed(trl.DPOTrainer.compute_ref_log_probs)  # only where it precomputes
    trainer = trl.DPOTrainer(
        model=policy,
        ref_model=reference,
        args=settings,
        train_dataset=rows(options.pairs()),
        processing_class=task.tokenizer(),
        peft_config=adapter() if lora else None,
        callbacks=[EpochClock(meter)],
    )
    if lora:
        task.set_adapter(trainer.model)
    precomputed = meter.reference
    meter.time_reference(trainer.model if reference is None else reference)
    meter.count_tokens(policy.model)
    return trainer, precomputed


def train(options: Options) -> Result:
    """Train for one epoch to warm up and then the timed ones."""
    meter = Meter()
    with tempfile.TemporaryDirectory() as directory:
        trainer, precomputed = build(options, directory, meter)
        trainer.train()
    assert trainer.args.gradient_checkpointing == (options.variant == "defaults")
    frozen = 1 if options.adapter == "lora" else 0
    num_rows = 2 * len(options.pairs())
    cached: dict[str, Any] = {"reference_seconds": [precomputed], "reference_cached": True}
    return result(
        "trl",
        options,
        meter,
        trainer.state.log_history,
        # without Triton its chunked head scores all positions but each row's last one, and computes the logits again
        # in the backward pass (trl/trainer/utils.py, `compact`; trl/kernels/chunked_logprob.py)
        head_tokens=meter.body_tokens - num_rows,
        body_products=3 - frozen + (1 if trainer.args.gradient_checkpointing else 0),
        head_products=4 - frozen,
        **(cached if options.variant == "best" else {}),
    )


if __name__ == "__main__":
    train(task.options(task.parser().parse_args())).emit("trl", "peft")
