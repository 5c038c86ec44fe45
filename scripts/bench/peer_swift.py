"""ms-swift's DPO on the common task, as it is or tuned. Run as `python -m scripts.bench.peer_swift` where ms-swift is installed.

`defaults`: gradient checkpointing. `best`: none. Both compute the reference in every step (ms-swift refuses to precompute
it) and send positions from the first response token on through the head. Its tokenisation is left out, so that it trains on
the same ids.
"""

import importlib
import json
import tempfile
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from scripts.bench import task
from scripts.bench.meter import Meter
from scripts.bench.peer_trainer import EpochClock, arguments, result
from scripts.bench.task import Options, Pair, Result

IGNORED = -100


class Rows(Dataset[dict[str, Any]]):
    """The pairs as ms-swift's template would have encoded them."""

    def __init__(self, pairs: list[Pair]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pair, row = self.pairs[index], dict[str, Any]()
        for side, response in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            ids = pair.prompt + response
            row[f"{side}_input_ids"], row[f"{side}_length"] = ids, len(ids)
            row[f"{side}_labels"] = [IGNORED] * len(pair.prompt) + response
        return row


def settings(options: Options, directory: Path) -> Any:
    """Return ms-swift's arguments; it reads the model, and a data set that `Rows` then replaces, from files."""
    model, data = directory / "model", directory / "unused.json"
    task.language_model(options.layers).save_pretrained(model)
    task.tokenizer().save_pretrained(model)
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    data.write_text(json.dumps([{"messages": messages, "rejected_response": "c"}]))
    lora = {"lora_rank": task.LORA_RANK, "lora_alpha": task.LORA_ALPHA, "lora_dropout": 0.0}
    return importlib.import_module("swift.arguments").RLHFArguments(
        **arguments(options, str(directory / "out")),
        **(lora if options.adapter == "lora" else {}),
        **({"gradient_checkpointing": False, "use_logits_to_keep": True} if options.variant == "best" else {}),
        rlhf_type="dpo",
        model=str(model),
        model_type="mistral",
        template="dummy",
        tuner_type="lora" if options.adapter == "lora" else "full",
        torch_dtype="float32",
        attn_impl="sdpa",
        dataset=[str(data)],
        split_dataset_ratio=0,
        load_from_cache_file=False,
        dataloader_num_workers=0,
        train_dataloader_shuffle=False,
        warmup_ratio=0.0,
        report_to=["none"],
        add_version=False,
        check_model=False,
        use_hf=True,
    )


def prepare(trainer: Any, options: Options, meter: Meter) -> None:
    """Fit a trainer that ms-swift has built with the meter and the common adapter."""
    whole = trainer.accelerator.unwrap_model(trainer.model)
    if options.adapter == "lora":
        task.set_adapter(whole)
    base = whole.get_base_model() if hasattr(whole, "get_base_model") else whole
    meter.count_tokens(base.model, base.lm_head)
    trainer.add_callback(EpochClock(meter))


def train(options: Options) -> Result:
    """Train for one epoch to warm up and then the timed ones."""
    meter, kept = Meter(), list[Any]()
    pipeline = importlib.import_module("swift.pipelines.train.rlhf").SwiftRLHF
    trainer_class = importlib.import_module("swift.rlhf_trainers.dpo_trainer").DPOTrainer
    pipeline._prepare_dataset = lambda self: (Rows(options.pairs()), None)
    trainer_class.compute_ref_log_probs = meter.timed(trainer_class.compute_ref_log_probs)
    run = pipeline.train

    def observed(self: Any, trainer: Any) -> Any:
        prepare(trainer, options, meter)
        kept.append(trainer)
        return run(self, trainer)

    pipeline.train = observed
    with tempfile.TemporaryDirectory() as directory:
        pipeline(settings(options, Path(directory))).main()
    trainer = kept[0]
    assert trainer.args.gradient_checkpointing == (options.variant == "defaults")
    products = 2 if options.adapter == "lora" else 3
    return result(
        "ms-swift",
        options,
        meter,
        trainer.state.log_history,
        body_products=products + (1 if trainer.args.gradient_checkpointing else 0),
        head_products=products,
    )


if __name__ == "__main__":
    train(task.options(task.parser().parse_args())).emit("ms-swift", "trl", "peft")
