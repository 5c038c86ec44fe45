"""Sequence classifiers that read what the answers to a prompt have in common once, in rows as the prefix layout has them."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from dpo_lab.layouts.attention import NAME
from dpo_lab.layouts.prefix import PrefixLayout
from dpo_lab.layouts.segments import segment_rows
from dpo_lab.scoring.fitting import unlike_plain_attention
from dpo_lab.tokens.build import tokenise_answers
from dpo_lab.tokens.store import TokenStore

SAME, COARSE = 1e-4, 0.1
"""Largest difference of logits in shared rows and by themselves, as a share of their size: in full and in half precision."""


class SharedRows:
    """The rows of several sets of answers, divided into what those of a set have in common and the rest."""

    def __init__(self, sets: Sequence[Sequence[Sequence[int]]]) -> None:
        common = [common_tokens(rows) for rows in sets]
        prompts = [list(rows[0][:count]) for rows, count in zip(sets, common, strict=True)]
        rests = [[list(row[count:]) for row in rows] for rows, count in zip(sets, common, strict=True)]
        self.store: TokenStore
        self.store, self.index = tokenise_answers(prompts, rests)

    def num_tokens(self, sets: Sequence[int]) -> int:
        """Return how many tokens a row of some sets has."""
        return PrefixLayout().num_tokens(self.store, self._responses(sets))

    def _responses(self, sets: Iterable[int]) -> list[int]:
        return list(dict.fromkeys(response for one_set in sets for response in self.index[one_set]))

    def logits(self, model: Any, sets: Sequence[int]) -> list[Tensor]:
        """Return what a classifier says of each row of some sets, (answers, labels) each, read at the row's last token."""
        groups: dict[int, list[int]] = {}
        for response in self._responses(sets):
            groups.setdefault(int(self.store.response_prompt[response]), []).append(response)
        ends, at = dict[int, int](), 0
        for prompt, responses in groups.items():
            at += int(self.store.prompt_lengths[prompt])
            for response in responses:
                at += int(self.store.response_lengths[response])
                ends[response] = at - 1
        rows = segment_rows(self.store, groups.values(), list(ends)).to(model.device)
        hidden = getattr(model, model.base_model_prefix)(**rows.inputs, use_cache=False).last_hidden_state[0]
        of_ends = dict(zip(ends, model.score(hidden[list(ends.values())]).float(), strict=True))
        return [torch.stack([of_ends[response] for response in self.index[one_set]]) for one_set in sets]


def common_tokens(rows: Sequence[Sequence[int]]) -> int:
    """Return with how many tokens all rows begin, less than the shortest of them has.

    >>> common_tokens([[1, 2, 3], [1, 2, 4, 5]]), common_tokens([[1, 2], [1, 2, 3]]), common_tokens([[1, 2]])
    (2, 1, 1)
    """
    beside = enumerate(zip(*rows, strict=False))
    differ = next((at for at, tokens in beside if len(set(tokens)) > 1), len(rows[0]))
    return min(differ, *(len(row) - 1 for row in rows))


@torch.no_grad()
def shares_prompts(model: Any) -> bool:
    """Return whether a classifier reads shared rows right; its attention is then set to what reads them, and padded ones too.

    It is tried on a few made-up tokens: a classifier that looks both ways, that has no head of the name `score`, or that
    reads other positions says other numbers.
    """
    if not (hasattr(model, "score") and hasattr(model, getattr(model, "base_model_prefix", "") or "-")):
        return False
    own = model.config._attn_implementation
    padding = model.config.pad_token_id
    ids = [number for number in range(min(64, model.config.vocab_size)) if number != padding][:18]
    rows = [ids[:8], [*ids[:4], *ids[8:18]]]
    exact = next(model.parameters()).dtype in (torch.float32, torch.float64)
    try:
        apart = torch.stack([model(input_ids=torch.tensor([row], device=model.device)).logits[0].float() for row in rows])
        model.set_attn_implementation(NAME)
        shared = SharedRows([rows]).logits(model, [0])[0]
        right = bool(((shared - apart).abs() <= (SAME if exact else COARSE) * (1 + apart.abs())).all())
    except (AttributeError, TypeError, ValueError, RuntimeError, IndexError):
        right = False
    if not right:
        model.set_attn_implementation(own)
    return right


def is_plain(model: Any, longest: int) -> bool:
    """Return whether a model's attention over rows of such a length is the plain one, which shared rows are computed by."""
    rope = getattr(model.config, "rope_parameters", None) or {}
    stretched = isinstance(rope, dict) and rope.get("rope_type") in ("dynamic", "longrope")
    return not stretched and not unlike_plain_attention(model, longest)
