"""PairRM as it is put together from transformers alone: one prompt at a time, its comparisons as one padded batch.

The published network is a DeBERTa-v2 whose states at the three prefixes go through a small head; the rows are built as in the
model card of llm-blender/PairRM-hf, every pair in both orders.
"""

import json
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dpo_lab.ranking.pairrm.texts import FIRST, SECOND, SOURCE
from dpo_lab.records import Candidates


class PlainPairRM:
    """transformers' encoder with the head of a PairRM directory."""

    def __init__(self, directory: Path, backbone: Path) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer
        from transformers import DebertaV2Config, DebertaV2Model

        config = DebertaV2Config.from_dict(json.loads((backbone / "config.json").read_text(encoding="utf-8")))
        state = load_file(directory / "model.safetensors")
        self.tokenizer: Any = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.encoder: Any = DebertaV2Model(config)
        size = config.hidden_size
        self.head = nn.Sequential(nn.Dropout(0.0), nn.Linear(2 * size, size), nn.Tanh(), nn.Dropout(0.0), nn.Linear(size, 1))
        for prefix, part in (("pretrained_model.", self.encoder), ("head_layer.", self.head)):
            part.load_state_dict({name.removeprefix(prefix): each for name, each in state.items() if name.startswith(prefix)})
            part.eval()

    def rank(self, sets: Sequence[Candidates]) -> list[list[float]]:
        """Return one score per answer of each prompt: what it gains shown first less what it loses shown second, the mean."""
        return [self._scores(one_set.prompt.text, one_set.responses) for one_set in sets]

    @torch.inference_mode()
    def _scores(self, prompt: str, answers: Sequence[str]) -> list[float]:
        pairs = list(permutations(range(len(answers)), 2))
        rows = [[(SOURCE, prompt), (FIRST, answers[one]), (SECOND, answers[other])] for one, other in pairs]
        gained = torch.zeros(len(answers), len(answers))
        gained[tuple(torch.tensor(pairs).T)] = self._logits([self._ids(row) for row in rows])
        scores: list[float] = (gained - gained.T).mean(1).tolist()
        return scores

    def _ids(self, row: Sequence[tuple[str, str]]) -> list[int]:
        """Return the ids of a row: each segment between [CLS] and [SEP]."""
        start, end = (self.tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
        parts = [self.tokenizer.encode(f"{prefix} {text}", add_special_tokens=False).ids for prefix, text in row]
        return [token for ids in parts for token in (start, *ids, end)]

    def _logits(self, rows: Sequence[Sequence[int]]) -> Tensor:
        time = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (time - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (time - len(row)) for row in rows])
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        at = [states[ids == self.tokenizer.token_to_id(prefix)] for prefix in (SOURCE, FIRST, SECOND)]
        scores: list[Tensor] = [self.head(torch.cat([at[0], each], -1))[:, 0] for each in at[1:]]
        return scores[0] - scores[1]
