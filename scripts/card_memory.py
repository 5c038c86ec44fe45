"""Which cards a LoRA training of a 7B fits, computed by the doctor's plan: python scripts/card_memory.py; minutes a row."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from dpo_lab.start import check

check()

import argparse
import json
import tempfile
from collections.abc import Sequence
from typing import cast

from hydra import compose, initialize_config_dir

from dpo_lab.alignment import Alignment
from dpo_lab.cli.build import build
from dpo_lab.conf_files import CONF
from dpo_lab.memory.check import CONTEXT, memory_plan, on_a_gpu
from dpo_lab.memory.unmade import longest_rows

CARDS = (16, 24, 48, 80)
"""GB."""
MISTRAL = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "max_position_embeddings": 32768,
    "sliding_window": None,
    "dtype": "bfloat16",
}
LLAMA = MISTRAL | {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128256}
MODELS = {"mistral7b": MISTRAL, "llama3_8b": LLAMA}
"""The shapes of the public config.json files: all that a plan reads."""
PAIRS = 2
"""The longest rows of a step; more pass through the model one after another."""


def needed(model: str, quant: str, length: int, *, checkpointing: bool) -> float:
    """Return the bytes that a training with `recipe=lora` needs on a GPU whose pairs are all of the greatest length."""
    with tempfile.TemporaryDirectory() as directory, initialize_config_dir(str(CONF), version_base="1.3"):
        (Path(directory) / "config.json").write_text(json.dumps(MODELS[model]), encoding="utf-8")
        words = [f"model={model}", f"model.path={directory}", "model.revision=null", f"quant={quant}", "adapter=lora"]
        words += [f"recipe.max_length={length}", f"model.checkpointing={str(checkpointing).lower()}"]
        stage = cast(Alignment, build(compose("train", words, return_hydra_config=True)))
        return memory_plan(on_a_gpu(stage), longest_rows(length, PAIRS)).needed


def fits(without: float, with_checkpointing: float, card: int) -> str:
    """Return whether a card is enough, and with what.

    >>> fits(19e9, 9.6e9, 24), fits(19e9, 9.6e9, 16), fits(90e9, 30e9, 24)
    ('yes', 'with checkpointing', 'no')
    """
    has = card * 1e9 - CONTEXT
    return "yes" if without <= has else "with checkpointing" if with_checkpointing <= has else "no"


def row(model: str, quant: str, length: int) -> str:
    """Return a row of the table of docs/mistral7b.md."""
    without, less = (needed(model, quant, length, checkpointing=on) for on in (False, True))
    cells = [f"{without / 1e9:.1f}", f"{less / 1e9:.1f}", *(fits(without, less, card) for card in CARDS)]
    return f"| `{model}` | `{quant}` | {length} | {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--quants", nargs="+", default=["4bit", "8bit", "none"])
    parser.add_argument("--lengths", nargs="+", type=int, default=[1024, 2048, 8192])
    asked = parser.parse_args(arguments)
    print("| model | quant | longest row, tokens | GB | GB, checkpointing |", " | ".join(f"{card} GB" for card in CARDS), "|")
    print("|---|---|---:|---:|---:|" + "---|" * len(CARDS))
    for model in asked.models:
        for quant in asked.quants:
            for length in asked.lengths:
                print(row(model, quant, length), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
