"""One training in its own process, and by how much its memory grows from just before the load. Run as `python -m`."""

import argparse
import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from dpo_lab.data.base import Given
from dpo_lab.models.load import ModelOnDisk
from dpo_lab.stages.train import Train
from scripts.bench.task import LENGTHS, MARK

MODELS: dict[str, dict[str, Any]] = {
    "57M": {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 2}
    | {"intermediate_size": 1536, "vocab_size": 32000, "tie_word_embeddings": False},
    "135M": {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
    | {"intermediate_size": 1536, "vocab_size": 49152, "tie_word_embeddings": True},
}
"""Two random models: the Mistral of bench_train.py, and the shape of SmolLM2-135M."""
WAYS = {
    "full": "adapter=none",
    "lora": "adapter=lora",
    "4bit": "adapter=lora quant=4bit",
    "8bit": "adapter=lora quant=8bit",
    "dora": "adapter=dora",
}
"""Words of the command line by the name of a way to train."""
PAIRS = 64
TEMPLATE = "{% for turn in messages %}{{ turn['content'] }} {% endfor %}"


def make_model(directory: Path, name: str, context: int = 2048) -> None:
    """Write a random model with a context of so many tokens and a tokenizer of one token per word."""
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
    config = LlamaConfig(**MODELS[name], max_position_embeddings=context, bos_token_id=0, eos_token_id=1, pad_token_id=2)
    model: Any = LlamaForCausalLM(config)
    model.save_pretrained(str(directory))
    tokenizer.save_pretrained(str(directory))


def make_pairs(path: Path, size: int, count: int, longer: int = 1, length: int | None = None) -> None:
    """Write pairs of random words with the lengths of HH, some times those, or all of one: half prompt, a quarter each answer."""
    draw = random.Random(0)
    lengths = LENGTHS if length is None else [(length // 2, length // 4, length // 4)]

    def words(number: int) -> str:
        return " ".join(f"w{draw.randrange(3, size)}" for _ in range(longer * number))

    names = ("prompt", "chosen", "rejected")
    rows = [dict(zip(names, map(words, lengths[at % len(lengths)]), strict=True)) for at in range(count)]
    path.write_text("\n".join(map(json.dumps, rows)))


def training(directory: Path, data: Path, words: str) -> Train:
    """Return the training of a model's directory on a file's pairs that a command line asks for."""
    from hydra import compose, initialize_config_dir

    from dpo_lab.cli.build import build
    from dpo_lab.conf_files import CONF

    given = [
        *("model=local", f"model.path={directory}", "data=jsonl", f"data.path={data}", f"paths.outputs={directory / 'outputs'}"),
        *("precision=fp32", "trainer.accelerator=cpu", "trainer.max_steps=2", "recipe.batch_size=16", "recipe.token_budget=1024"),
    ]
    names = {word.partition("=")[0] for word in words.split()}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        kept = [word for word in given if word.partition("=")[0] not in names]
        built = build(compose("train", [*kept, *words.split()], return_hydra_config=True))
    assert isinstance(built, Train)
    return built


def memory(field: str) -> int:
    """Return a field of this process's status in bytes: VmRSS, VmHWM (the peak), RssAnon, RssFile."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


@contextmanager
def growth_from_load(spent: list[float]) -> Iterator[dict[str, int]]:
    """Note memory just before the model is first loaded, and the growth to the peak of each part from then on.

    Args:
        spent: takes the CPU-seconds of each training.
    """
    dpo_round: Any = import_module("dpo_lab.pipeline.policy")
    rounds: Any = import_module("dpo_lab.pipeline.rounds")
    found: dict[str, int] = {}
    load, fit, evaluate = ModelOnDisk.load, dpo_round.fit, rounds.evaluate_round

    def noted(name: str) -> None:
        found[name] = max(found.get(name, 0), memory("VmHWM") - found["before"])
        Path("/proc/self/clear_refs").write_text("5")

    def loading(self: ModelOnDisk, device: torch.device) -> Any:
        if not found:
            found["before"] = memory("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")
        loaded = load(self, device)
        if "load" not in found:
            noted("load")
        return loaded

    def fitting(*arguments: Any, **named: Any) -> Any:
        noted("reference pass")
        began = time.process_time()
        figures = fit(*arguments, **named)
        spent.append(time.process_time() - began)
        noted("training")
        return figures

    def evaluating(*arguments: Any, **named: Any) -> Any:
        noted("saving")
        return evaluate(*arguments, **named)

    ModelOnDisk.load, dpo_round.fit, rounds.evaluate_round = loading, fitting, evaluating  # type: ignore[method-assign]
    try:
        yield found
    finally:
        ModelOnDisk.load, dpo_round.fit, rounds.evaluate_round = load, fit, evaluate  # type: ignore[method-assign]
        noted("evaluation")
        del found["before"]


def load_libraries() -> None:
    """Import what a training imports on its way: its code does not count in a plan."""
    import bitsandbytes  # noqa: F401
    import lightning  # noqa: F401
    import peft  # noqa: F401

    import dpo_lab.layouts.attention
    import dpo_lab.models.lora_linear
    import dpo_lab.pipeline.rounds  # noqa: F401


def main() -> None:
    """Train in the way that the command line says, and print what was planned and what memory grew by, in bytes."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--model", choices=MODELS, default="57M")
    arguments.add_argument("--way", choices=WAYS, default="full")
    arguments.add_argument("--words", default="", help="more words of the command line")
    arguments.add_argument("--pairs", type=int, default=PAIRS)
    arguments.add_argument("--longer", type=int, default=1, help="times the lengths of HH")
    arguments.add_argument("--length", type=int, help="tokens of every pair, in place of the lengths of HH")
    arguments.add_argument("--threads", type=int, default=1)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    load_libraries()
    from dpo_lab.memory.check import memory_plan
    from dpo_lab.models.load import load_tokenizer
    from dpo_lab.tokens.build import tokenise_items

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        made = multiprocessing.get_context("spawn").Process(
            target=make_model, args=(directory, given.model, max(2048, 2 * (given.length or 0)))
        )
        made.start()  # elsewhere: what making a model leaves in the heap would hide a part of the growth
        made.join()
        make_pairs(directory / "pairs.jsonl", MODELS[given.model]["vocab_size"], given.pairs, given.longer, given.length)
        train = training(directory, directory / "pairs.jsonl", f"{WAYS[given.way]} {given.words}")
        spent: list[float] = []
        with growth_from_load(spent) as found:
            train.run()
        data, tokenizer = train.data, load_tokenizer(str(directory))
        assert isinstance(data, Given)
        pairs = data.load(1)[0].train
        store = tokenise_items(pairs, tokenizer, max_length=data.max_length, truncation=data.truncation).store
        plan = memory_plan(train, store)
    result = {
        "planned": plan.peak,
        "measured": max(found.values()),
        "parts": plan.parts,
        "grown": found,
        "rows": plan.rows,
        "seconds": sum(spent),
    }
    print(MARK + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
