"""What every contestant of bench_train.py shares: token ids, starting weights, optimizer settings, and the form of a result.

Needs torch and transformers alone, because every contestant imports it in its own interpreter.
"""

import argparse
import json
import resource
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

LENGTHS: tuple[tuple[int, int, int], ...] = (
    *((17, 12, 6), (255, 41, 6), (16, 9, 9), (190, 85, 114), (364, 39, 42), (221, 31, 33), (98, 14, 25), (39, 13, 5)),
    *((16, 33, 26), (72, 57, 107), (21, 18, 95), (46, 104, 17), (219, 65, 192), (246, 83, 56), (19, 26, 10), (77, 6, 47)),
)
"""Tokens of prompt, chosen and rejected response of 16 pairs out of 2303 of anthropics/hh-rlhf (harmless-base/test.jsonl.gz,
MIT): in this order their means, their prefix-shared tokens and their padded tokens in batches of 1, 2, 4 and 8 pairs are
within 1 % of the whole set's. The texts are not needed: a benchmark of speed can draw its ids."""

PAIRS_PER_STEP = 8
BETA = 0.1
COMPARED_STEPS = 4
"""Steps whose losses and gradient norms have to agree: each half of the pairs before and after its first update."""
LEARNING_RATE = {"none": 5e-6, "lora": 5e-4}
"""By adapter: high enough that the losses after the first epoch differ from ln 2 by far more than rounding."""
LORA_RANK, LORA_ALPHA = 16, 32
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
VOCABULARY, SPECIAL_TOKENS = 32000, 3  # begin, end and padding come first and are never drawn


@dataclass(frozen=True)
class Pair:
    """Token ids of one preference pair."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a contestant is asked to do: epochs to warm up and then the timed ones; the first steps of all are compared."""

    variant: str
    adapter: str
    precision: str
    micro_batch: int
    repetitions: int
    threads: int
    layers: int
    warm_up: int = 1
    compared: int = COMPARED_STEPS
    file: str = ""
    beta: float = BETA
    lr: float = 0.0
    """The learning rate; 0: the adapter's."""

    @property
    def epochs(self) -> int:
        """All epochs, the warm-up included."""
        return self.warm_up + self.repetitions

    def pairs(self) -> list[Pair]:
        """Return the pairs to train on: those of the file, else the 16 of the task."""
        if not self.file:
            return pairs()
        return [Pair(*row) for row in json.loads(Path(self.file).read_text(encoding="utf-8"))]

    @property
    def bf16(self) -> bool:
        """Whether matrix products are computed in bfloat16 over float32 weights."""
        return self.precision == "bf16-mixed"

    @property
    def learning_rate(self) -> float:
        """The constant learning rate."""
        return self.lr or LEARNING_RATE[self.adapter]


@dataclass(kw_only=True)
class Result:
    """What a contestant reports, as one line of JSON; seconds are CPU seconds of its process for 16 pairs."""

    contestant: str
    options: dict[str, Any]
    losses: list[float]
    """Of the first optimizer steps."""
    grad_norms: list[float]
    epoch_seconds: list[float]
    """Per timed epoch, everything that is paid in each of them: an uncached reference is part of it."""
    reference_seconds: list[float]
    """Per timed epoch, or once if `reference_cached`."""
    reference_cached: bool
    body_tokens: int
    """Positions that one training epoch sends through the transformer's body."""
    head_tokens: int
    """Positions that one training epoch sends through the head."""
    body_products: int
    """Products with each of the body's matrices per position: forward, by input, by weight, recomputed."""
    head_products: int
    other_seconds: float = 0.0
    """CPU seconds of the process that are in neither: imports, the model, the trainer; where epochs warm up, these too."""
    peak_rss_mb: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)

    def emit(self, *packages: str, since: float = 0.0) -> None:
        """Print the result with what only its process knows: other seconds, peak memory and versions.

        Args:
            since: CPU seconds of the process when this training began, where others came before it.
        """
        counted = sum(self.epoch_seconds) + (sum(self.reference_seconds) if self.reference_cached else 0.0)
        self.other_seconds = time.process_time() - since - counted
        self.peak_rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.versions = {name: version(name) for name in ("torch", "transformers", *packages)}
        print(MARK + json.dumps(asdict(self)), flush=True)


MARK = "RESULT "


def parse_results(output: str) -> list[Result]:
    """Return the results in what a contestant printed; libraries print around them."""
    return [Result(**json.loads(line.removeprefix(MARK))) for line in output.splitlines() if line.startswith(MARK)]


def parser() -> argparse.ArgumentParser:
    """Return the command line that all contestants understand."""
    made = argparse.ArgumentParser()
    made.add_argument("--variant", default="defaults")
    made.add_argument("--adapter", choices=("none", "lora"), default="none")
    made.add_argument("--precision", choices=("fp32", "bf16-mixed"), default="fp32")
    made.add_argument("--micro-batch", type=int, default=PAIRS_PER_STEP, help="pairs per forward pass")
    made.add_argument("--repetitions", type=int, default=1, help="timed epochs")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--layers", type=int, default=8)
    made.add_argument("--warm-up", type=int, default=1, help="epochs that are not timed")
    made.add_argument("--compared", type=int, default=COMPARED_STEPS, help="steps whose losses and norms are reported")
    made.add_argument("--beta", type=float, default=BETA)
    made.add_argument("--lr", type=float, default=0.0, help="learning rate; default: the adapter's")
    made.add_argument("--file", default="", help="JSON list of [prompt, chosen, rejected] ids in place of the 16 pairs")
    return made


def options(arguments: argparse.Namespace) -> Options:
    """Return the common options of a command line, and let torch use that many threads."""
    torch.set_num_threads(arguments.threads)
    return Options(**{name: getattr(arguments, name) for name in Options.__dataclass_fields__})


def pairs(seed: int = 0) -> list[Pair]:
    """Return the 16 pairs with ids drawn from a seed: optimizer step 0 is the first half, step 1 the second."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(count: int) -> list[int]:
        return torch.randint(SPECIAL_TOKENS, VOCABULARY, (count,), generator=generator).tolist()

    return [Pair(drawn(prompt), drawn(chosen), drawn(rejected)) for prompt, chosen, rejected in LENGTHS]


def language_model(layers: int = 8, size: int = 512, seed: int = 0) -> Any:
    """Return a Mistral drawn from a seed: 57 M weights with 8 layers of size 512.

    The weights are drawn here, by name, because the order in which transformers draws them depends on its version.
    """
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        vocab_size=VOCABULARY,
        hidden_size=size,
        intermediate_size=3 * size,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        sliding_window=None,
        tie_word_embeddings=False,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    model = MistralForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, weight in sorted(model.named_parameters()):
            weight.normal_(0.0, 0.02, generator=generator) if weight.dim() > 1 else weight.fill_(1.0)
    return model


def set_adapter(model: nn.Module, seed: int = 0) -> None:
    """Give a model's LoRA matrices the same start in every contestant: A uniform as PEFT draws it, B zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if ".lora_A." in name:
                bound = weight.shape[1] ** -0.5
                weight.copy_(torch.empty_like(weight, dtype=torch.float32).uniform_(-bound, bound, generator=generator))
            elif ".lora_B." in name:
                weight.zero_()


def tokenizer() -> Any:
    """Return a tokenizer that knows the special tokens only: the peers ask for one, the ids are given."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    special = {"<s>": 0, "</s>": 1, "<pad>": 2}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(special, unk_token="<pad>")),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )
