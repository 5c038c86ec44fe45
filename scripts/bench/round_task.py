"""The round of bench_round.py: its prompts, its policy, its PairRM, and how token ids are read as text.

Prompts have the 16 lengths of `task.LENGTHS`, whose statistics are those of HH, in every portion, with their own ids.
All answers have the same number of tokens, the mean of HH's responses, so that every contestant does the same work.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from dpo_lab.ranking.pairrm.encoder import Shape
from dpo_lab.ranking.pairrm.network import PairNetwork
from dpo_lab.ranking.pairrm.texts import PREFIXES
from dpo_lab.records import Candidates, Prompt
from scripts.bench import task

SAMPLES = 5
RANKER_SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
FIXED: dict[str, Any] = {
    "model_type": "deberta-v2",
    "pos_att_type": "p2c|c2p",
    "norm_rel_ebd": "layer_norm",
    "relative_attention": True,
    "share_att_key": True,
    "position_biased_input": False,
    "type_vocab_size": 0,
    "max_relative_positions": -1,
}
"""What DeBERTa-v3 has in common whatever its size."""


@dataclass(frozen=True, kw_only=True)
class RoundTask:
    """The sizes of the round; the defaults are those of the reported figures."""

    portions: int = 4
    """Prompts, answers and pairs are made in so many portions of equal work, so that no call takes long."""
    layers: int = 8
    """Of the policy: 57 M weights."""
    prompts: int = len(task.LENGTHS)
    """Of a portion."""
    tokens: int = 45
    """Of every answer: HH's chosen have 39.7 on average, its rejected 49.4."""
    ranker_width: int = 256
    ranker_layers: int = 6

    def settings(self) -> dict[str, int]:
        """Return the sizes as plain data."""
        return asdict(self)

    def prompt_ids(self, portion: int) -> list[list[int]]:
        """Return the prompts of a portion."""
        return [pair.prompt for pair in task.pairs(seed=portion)][: self.prompts]


def text_of(ids: Sequence[int]) -> str:
    """Return ids as text, a word each: the ranker reads texts, and as many of its tokens as of the policy's.

    >>> text_of([7, 12])
    'w7 w12'
    """
    return " ".join(f"w{token_id}" for token_id in ids)


def candidates(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> list[Candidates]:
    """Return the answers to each prompt as texts; those of one prompt stand side by side."""
    return [
        Candidates(
            prompt=Prompt.from_text(text_of(prompt)),
            responses=tuple(map(text_of, answers[place * SAMPLES : (place + 1) * SAMPLES])),
        )
        for place, prompt in enumerate(prompts)
    ]


def best_and_worst(scores: Sequence[float]) -> tuple[int, int]:
    """Return the places of the highest and of the lowest score.

    >>> best_and_worst([0.5, 2.0, -1.0])
    (1, 2)
    """
    return max(range(len(scores)), key=scores.__getitem__), min(range(len(scores)), key=scores.__getitem__)


def ranker_shape(asked: RoundTask, vocabulary: int) -> dict[str, Any]:
    """Return the configuration of the ranker's encoder: heads of 64 as DeBERTa-v3's, four times as wide between."""
    width = asked.ranker_width
    return {
        **FIXED,
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_attention_heads": max(1, width // 64),
        "num_hidden_layers": asked.ranker_layers,
        "position_buckets": 256,
        "max_position_embeddings": 512,
        "layer_norm_eps": 1e-7,
    }


def ranker_tokenizer() -> Any:
    """Return a tokenizer of words, one for each id of the policy, with the tokens of PairRM's format."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = [*RANKER_SPECIAL, *PREFIXES, *(f"w{each}" for each in range(task.VOCABULARY))]
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(list(RANKER_SPECIAL))
    made.add_tokens(list(PREFIXES))
    ends = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return made


def write_ranker(directory: Path, asked: RoundTask) -> Path:
    """Write a PairRM drawn from a seed in the layout of llm-blender/PairRM, its encoder's configuration below `backbone`."""
    from safetensors.torch import save_file

    backbone = directory / "backbone"
    backbone.mkdir(parents=True, exist_ok=True)
    tokenizer = ranker_tokenizer()
    tokenizer.save(str(directory / "tokenizer.json"))
    shape = ranker_shape(asked, tokenizer.get_vocab_size())
    network = PairNetwork(Shape.of(shape, "the round's PairRM"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in sorted(network.named_parameters()):
            if weight.dim() > 1:  # by what goes in, so that answers differ by more than rounding
                weight.normal_(0.0, 2.0 * weight.shape[1] ** -0.5, generator=generator)
            else:
                weight.fill_(1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0)
    save_file({name: weight.contiguous() for name, weight in network.state_dict().items()}, directory / "model.safetensors")
    (backbone / "config.json").write_text(json.dumps(shape), encoding="utf-8")
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 2048, **special}
    (backbone / "tokenizer_config.json").write_text(json.dumps(described), encoding="utf-8")
    config = {"ranker_type": "pairranker", "model_name": "microsoft/deberta-v3-large", "model_type": "deberta-v3", "n_tasks": 1}
    limits = {"source_maxlength": 1224, "candidate_maxlength": 412}
    (directory / "config.json").write_text(json.dumps({**config, **limits}), encoding="utf-8")
    return directory
