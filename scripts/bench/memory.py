"""One training in a process of its own, and by how much its memory grows from just before the load. Run as `python -m`."""

import argparse
import json
import multiprocessing
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dpo_lab.data.load import load_pairs
from dpo_lab.data.sources import FilePairs
from dpo_lab.evaluation.preference import PreferenceEvaluation
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.losses.dpo import DPOLoss
from dpo_lab.models.adapter import LoRA, NoAdapter
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.models.quant import EightBit, FourBit, NoQuant
from dpo_lab.models.spec import PretrainedModel
from dpo_lab.reference.adapters import AdapterOffReference
from dpo_lab.reference.cached import CachedReference
from dpo_lab.reference.frozen import FrozenReference
from dpo_lab.stages.train import Train
from dpo_lab.training.iteration import Iteration
from dpo_lab.training.optim import AdamW
from dpo_lab.training.optim_8bit import AdamW8bit
from dpo_lab.training.precision import Precision
from dpo_lab.training.settings import TrainerSettings
from scripts.bench.task import LENGTHS, MARK

MODELS: dict[str, dict[str, Any]] = {
    "57M": {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 2}
    | {"intermediate_size": 1536, "vocab_size": 32000, "tie_word_embeddings": False},
    "135M": {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
    | {"intermediate_size": 1536, "vocab_size": 49152, "tie_word_embeddings": True},
}
"""Two random models: the Mistral of bench_train.py, and the shape of SmolLM2-135M."""
WAYS = ("full", "lora", "4bit", "8bit", "adamw_8bit", "frozen", "adapter_off")
BUDGET, STEPS, PAIRS = 1024, 2, 64
TEMPLATE = "{% for turn in messages %}{{ turn['content'] }} {% endfor %}"


def make_model(directory: Path, name: str) -> None:
    """Write a random model with a tokenizer of one token per word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    size = MODELS[name]["vocab_size"]
    words = {"<s>": 0, "</s>": 1, "<pad>": 2, **{f"w{number}": number for number in range(3, size)}}
    inner = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>", chat_template=TEMPLATE
    )
    torch.manual_seed(0)
    config = LlamaConfig(**MODELS[name], max_position_embeddings=2048, bos_token_id=0, eos_token_id=1, pad_token_id=2)
    model: Any = LlamaForCausalLM(config)
    model.save_pretrained(str(directory))
    tokenizer.save_pretrained(str(directory))


def make_pairs(path: Path, size: int, count: int) -> None:
    """Write pairs of random words with the lengths of HH."""
    draw = random.Random(0)

    def words(number: int) -> str:
        return " ".join(f"w{draw.randrange(3, size)}" for _ in range(number))

    names = ("prompt", "chosen", "rejected")
    rows = [dict(zip(names, map(words, LENGTHS[at % len(LENGTHS)]), strict=True)) for at in range(count)]
    path.write_text("\n".join(map(json.dumps, rows)))


def training(directory: Path, data: Path, way: str, budget: int, steps: int) -> Train:
    """Return a short training in some way."""
    quant = FourBit() if way == "4bit" else EightBit() if way == "8bit" else NoQuant()
    adapter = LoRA() if way in ("lora", "4bit", "8bit", "adapter_off") else NoAdapter()
    reference = {"frozen": FrozenReference, "adapter_off": AdapterOffReference}.get(way, CachedReference)()
    return Train(
        model=PretrainedModel(path=str(directory), licence="none", quant=quant, adapter=adapter),
        data=FilePairs(path=data, held_out=0),
        loss=DPOLoss(),
        reference=reference,
        optim=AdamW8bit() if way == "adamw_8bit" else AdamW(),
        evaluation=PreferenceEvaluation(),
        layout=PrefixLayout(),
        precision=Precision(mode="fp32"),
        trainer=TrainerSettings(accelerator="cpu", batch_size=16, token_budget=budget, max_steps=steps),
        iteration=Iteration(),
        callbacks={},
        logger={},
        outputs=directory / "outputs",
    )


def memory(field: str) -> int:
    """Return a field of this process's status in bytes: VmRSS, VmHWM (the peak), RssAnon, RssFile."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


@contextmanager
def growth_from_load() -> Iterator[dict[str, int]]:
    """Note memory just before the model is first loaded, and forget the peak before that."""
    found: dict[str, int] = {}
    load = ModelOnDisk.load

    def noted(self: ModelOnDisk, device: torch.device) -> Any:
        if not found:
            found["before"] = memory("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")
        loaded = load(self, device)
        found.setdefault("load", memory("VmHWM") - found["before"])
        found.setdefault("loaded", memory("VmRSS") - found["before"])
        found.setdefault("anon", memory("RssAnon"))
        return loaded

    ModelOnDisk.load = noted  # type: ignore[method-assign]
    try:
        yield found
    finally:
        ModelOnDisk.load = load  # type: ignore[method-assign]
        found["peak"] = memory("VmHWM") - found["before"]


def load_libraries() -> None:
    """Import what a training imports on its way: its code is no part of a plan."""
    import bitsandbytes  # noqa: F401
    import lightning  # noqa: F401
    import peft  # noqa: F401

    import dpo_lab.layouts.attention
    import dpo_lab.models.lora_linear
    import dpo_lab.stages.rounds  # noqa: F401


def main() -> None:
    """Train in the way that the command line says, and print what was planned and what memory grew by, in bytes."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--model", choices=MODELS, default="57M")
    arguments.add_argument("--way", choices=WAYS, default="full")
    arguments.add_argument("--budget", type=int, default=BUDGET)
    arguments.add_argument("--pairs", type=int, default=PAIRS)
    arguments.add_argument("--threads", type=int, default=1)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    load_libraries()
    from dpo_lab.models.load import load_tokenizer
    from dpo_lab.stages.memory_plan import memory_plan
    from dpo_lab.tokens.build import tokenise_pairs

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        made = multiprocessing.get_context("spawn").Process(target=make_model, args=(directory, given.model))
        made.start()  # elsewhere: what making a model leaves in the heap would hide a part of the growth
        made.join()
        make_pairs(directory / "pairs.jsonl", MODELS[given.model]["vocab_size"], given.pairs)
        train = training(directory, directory / "pairs.jsonl", given.way, given.budget, STEPS)
        with growth_from_load() as found:
            train.run()
        pairs, tokenizer = load_pairs(directory / "pairs.jsonl", max_dropped=0.0)[0], load_tokenizer(str(directory))
        store = tokenise_pairs(pairs, tokenizer, max_length=512, truncation="keep_end_prompt").store
        plan = memory_plan(train, store)
    result = {"model": given.model, "way": given.way, "planned": plan.peak, "measured": found["peak"], "rows": plan.rows}
    print(MARK + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
