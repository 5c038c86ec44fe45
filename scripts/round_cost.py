"""What a round of a recipe costs on one GPU, computed: python scripts/round_cost.py experiment=snorkel_mistral."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from dpo_lab.start import check

check()

import argparse
from collections.abc import Sequence

from hydra import compose, initialize_config_dir

from dpo_lab.conf_files import CONF
from scripts.bench.round_cost import Decoder, Round, disk_table, table


def round_of(words: Sequence[str], prompt_tokens: int, answer_tokens: int) -> Round:
    """Return the counts of a command line of `train`; lengths are not known before answers are drawn."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", list(words))
    return Round(
        prompts=config.prompts.num_prompts,
        answers=config.sampler.num_samples,
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        longest=config.sampler.max_new_tokens,
        together=config.sampler.batch_size,
        epochs=config.recipe.epochs,
        rank=config.adapter.rank,
        quantised="bits" in config.quant or "NoQuant" not in config.quant._target_,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables; their text is that of docs/pipeline.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", default=["experiment=snorkel_mistral"], help="of the command line of train")
    parser.add_argument("--prompt-tokens", type=int, default=190, help="of a prompt, the mean; assumed")
    parser.add_argument("--answer-tokens", type=int, default=330, help="of an answer, the mean; assumed")
    asked = parser.parse_args(arguments)
    this = round_of(asked.words, asked.prompt_tokens, asked.answer_tokens)
    print(*table(this, Decoder()), "", *disk_table(this, Decoder()), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
