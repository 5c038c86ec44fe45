"""A tiny PairRM in the public directory layouts, its encoder made by transformers, its tokenizer as DeBERTa-v3's is built."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import nn
from transformers import DebertaV2Config, DebertaV2Model

from dpo_lab.ranking.pairrm.texts import PREFIXES

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "position_buckets": 16,
    "max_position_embeddings": 32,
    "relative_attention": True,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "layer_norm_eps": 1e-7,
    "max_relative_positions": -1,
    "position_biased_input": False,
    "type_vocab_size": 0,
}


def tokenizer() -> Tokenizer:
    """Return a Unigram of letters and digits behind NFKC, with DeBERTa-v3's special tokens first."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    pieces = [(token, 0.0) for token in special] + [(piece, -2.0) for piece in (*LETTERS, *"0123456789.?!", "\u2581")]
    made = Tokenizer(models.Unigram(pieces, unk_id=3))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.add_special_tokens(special)
    made.add_tokens(list(PREFIXES))
    return made


class Published(nn.Module):
    """The published network on transformers' encoder: what ours has to agree with."""

    def __init__(self, vocabulary: int, seed: int = 0) -> None:
        super().__init__()
        self.pretrained_model = DebertaV2Model(DebertaV2Config(**SHAPE, vocab_size=vocabulary))
        size = SHAPE["hidden_size"]
        self.head_layer = nn.Sequential(
            nn.Dropout(0.05), nn.Linear(2 * size, size), nn.Tanh(), nn.Dropout(0.05), nn.Linear(size, 1)
        )
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in self.parameters():
                weight.normal_(0, 0.3, generator=generator)
        self.eval()

    @torch.no_grad()
    def logits(self, ids: torch.Tensor, mask: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
        states = self.pretrained_model(input_ids=ids, attention_mask=mask).last_hidden_state
        prompt, first, second = states[torch.arange(len(ids))[:, None], anchors].unbind(1)
        scores: list[torch.Tensor] = [self.head_layer(torch.cat([prompt, each], -1))[:, 0] for each in (first, second)]
        return scores[0] - scores[1]


def write(directory: Path, layout: str = "PairRM-hf", seed: int = 0) -> Published:
    """Write a tiny PairRM; return its published network."""
    directory.mkdir(parents=True)
    made = tokenizer()
    network = Published(made.get_vocab_size(), seed)
    made.save(str(directory / "tokenizer.json"))
    state = {name: weight.contiguous() for name, weight in network.state_dict().items() if "position_ids" not in name}
    save_file(state, directory / "model.safetensors")
    config: dict[str, Any] = {"model_type": "deberta-v2", **SHAPE, "vocab_size": made.get_vocab_size(), "n_tasks": 1}
    if layout == "PairRM":
        (directory / "backbone").mkdir()
        (directory / "backbone" / "config.json").write_text(json.dumps(config))
        config = {"ranker_type": "pairranker", "model_name": "backbone", "n_tasks": 1}
    (directory / "config.json").write_text(json.dumps({**config, "source_maxlength": 40, "candidate_maxlength": 20}))
    return network
