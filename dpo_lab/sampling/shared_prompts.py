"""The keys and values of answers that share their prompts: each prompt's are held once, never copied for its answers.

For stock models of transformers whose attention can be exchanged, as `layouts.attention` does for rows of segments.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "dpo_lab_shared_prompts"
SDPA: Any = ALL_ATTENTION_FUNCTIONS["sdpa"]
READ_AT_ONCE = 4096  # tokens of prompts in one forward pass
LONGER, MORE = 1.5, 8  # prompts of a group have at most so many times the tokens of its shortest, and so many more


@dataclass
class Group:
    """Prompts of similar length with the rows that answer them."""

    lengths: Tensor
    """(prompts,) tokens of each."""
    longest: int
    rows: slice
    """Which rows of the batch are its answers, those of a prompt side by side."""
    width: int
    """Most answers of one prompt."""
    slots: Tensor | None = None
    """Where its rows stand among prompts x width; None: every slot has its row, in order."""
    keys: list[Tensor] = field(default_factory=list)
    """Of each layer, (prompts, heads, longest, size)."""
    values: list[Tensor] = field(default_factory=list)

    def scattered(self, rows: Tensor) -> Tensor:
        """Return (rows, heads, sharing, size) as (prompts x heads, width x sharing, size): queries beside their prompt's keys."""
        if self.slots is not None:
            rows = rows.new_zeros(len(self.lengths) * self.width, *rows.shape[1:]).index_copy_(0, self.slots, rows)
        _, heads, sharing, size = rows.shape
        by_prompt = rows.view(len(self.lengths), self.width, heads, sharing, size).transpose(1, 2)
        return by_prompt.reshape(len(self.lengths) * heads, self.width * sharing, size)

    def gathered(self, seen: Tensor, heads: int) -> Tensor:
        """Return what `scattered` has made into one row per answer again."""
        split = seen.view(len(self.lengths), heads, self.width, -1, seen.shape[-1]).transpose(1, 2)
        rows = split.reshape(len(self.lengths) * self.width, heads, -1, seen.shape[-1])
        return rows if self.slots is None else rows.index_select(0, self.slots)

    def hidden(self) -> Tensor | None:
        """Return (prompts, 1, longest), True behind the end of a prompt; None where all are equally long."""
        time = torch.arange(self.longest, device=self.lengths.device)
        hidden = time >= self.lengths[:, None]
        return hidden[:, None] if bool(hidden.any()) else None


class SharedPrompts:
    """A batch of prompts and the answers that are drawn to them, as the attention of a model needs them."""

    def __init__(self, model: nn.Module, prompts: Sequence[Sequence[int]], count: int, steps: int) -> None:
        self.model: Any = model
        self.prompts, self.count, self.steps = prompts, count, steps
        self.device = next(model.parameters()).device
        self.time = 0
        """Tokens of each answer that were read."""
        self.keys: list[Tensor] = []
        """Of each layer, (rows, heads, steps, size)."""
        self.values: list[Tensor] = []
        self.groups = list(self._grouped())
        self._hidden = [group.hidden() for group in self.groups]
        self._reading: tuple[int, int] | None = None

    def _grouped(self) -> Iterator[Group]:
        lengths = [len(prompt) for prompt in self.prompts]  # in ascending order
        start = 0
        for end in range(1, len(lengths) + 1):
            if end == len(lengths) or lengths[end] > LONGER * lengths[start] + MORE:
                rows = slice(start * self.count, end * self.count)
                yield Group(torch.tensor(lengths[start:end], device=self.device), max(lengths[start:end]), rows, self.count)
                start = end

    def read(self) -> Tensor:
        """Read every prompt once, without padding; return the logits of what follows, (rows, vocab)."""
        logits, start = [], 0
        for end in range(1, len(self.prompts) + 1):
            if end == len(self.prompts) or sum(map(len, self.prompts[start : end + 1])) > READ_AT_ONCE:
                logits.append(self._read(start, end))
                start = end
        return torch.cat(logits).repeat_interleave(self.count, 0)

    def _read(self, start: int, end: int) -> Tensor:
        some = self.prompts[start:end]
        lengths = torch.tensor([len(prompt) for prompt in some])
        positions = torch.cat([torch.arange(len(prompt)) for prompt in some])
        self._reading = start, end
        last = (lengths.cumsum(0) - 1).to(self.device)
        ids = torch.tensor([[token for prompt in some for token in prompt]], device=self.device)
        try:
            return self._forward(ids, positions[None].to(self.device), logits_to_keep=last)[0]
        finally:
            self._reading = None

    def step(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Read one more token of each answer; return the logits of what follows, (rows, vocab)."""
        logits = self._forward(tokens[:, None], positions[:, None])[:, -1]
        self.time += 1
        return logits

    def _forward(self, ids: Tensor, positions: Tensor, **others: Any) -> Tensor:
        # a mask of four dimensions is taken as it is: none of (tokens, tokens) is built
        mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=self.device)
        inputs = {"input_ids": ids, "position_ids": positions, "attention_mask": mask}
        logits: Tensor = self.model(**inputs, use_cache=False, shared_prompts=self, **others).logits
        return logits

    def select(self, rows: Tensor) -> bool:
        """Go on with some rows alone, in ascending order; prompts without answers are dropped once they are half of a group."""
        for own in (*self.keys, *self.values):
            own[: len(rows), :, : self.time] = own[rows, :, : self.time]
        kept, groups, at = rows.tolist(), list[Group](), 0
        for group in self.groups:
            old = list(range(len(group.lengths) * group.width)) if group.slots is None else group.slots.tolist()
            prompts = [old[row - group.rows.start] // group.width for row in kept if group.rows.start <= row < group.rows.stop]
            if prompts:
                groups.append(self._remaining(group, prompts, at))
                at += len(prompts)
        self.groups = groups
        self._hidden = [group.hidden() for group in groups]
        return True

    def _remaining(self, group: Group, prompts: list[int], at: int) -> Group:
        """Return a group with rows from `at` on, one for each of `prompts`, positions in the group in ascending order."""
        alive = sorted(set(prompts))
        lengths, keys, values = group.lengths, group.keys, group.values
        if 2 * len(alive) <= len(lengths):
            chosen = torch.tensor(alive, device=self.device)
            lengths = lengths[chosen]
            longest = int(lengths.max())
            keys, values = ([states[chosen, :, :longest] for states in part] for part in (keys, values))
            place = {prompt: at for at, prompt in enumerate(alive)}
            prompts = [place[prompt] for prompt in prompts]
        width = max(Counter(prompts).values())
        before: Counter[int] = Counter()
        slots = []
        for prompt in prompts:
            slots.append(prompt * width + before[prompt])
            before[prompt] += 1
        full = slots == list(range(len(lengths) * width))
        where = None if full else torch.tensor(slots, device=self.device)
        return Group(lengths, keys[0].shape[2], slice(at, at + len(prompts)), width, where, keys, values)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Return attention of shape (rows, heads, time, size) in one layer, and keep the keys and values."""
        if self._reading:
            return self._attend_prompts(layer, query, key, value, scaling, *self._reading)
        return self._attend_answers(layer, query, key, value, scaling)

    def _attend_prompts(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, start: int, end: int
    ) -> Tensor:
        sizes = [len(prompt) for prompt in self.prompts[start:end]]
        sdpa = partial(F.scaled_dot_product_attention, is_causal=True, scale=scaling, enable_gqa=query.shape[1] != key.shape[1])
        seen = []
        for index, part in enumerate(zip(*(states.split(sizes, dim=2) for states in (query, key, value)), strict=True), start):
            seen.append(sdpa(*part))
            self._keep(layer, index, *part[1:])
        return torch.cat(seen, dim=2)

    def _keep(self, layer: int, index: int, key: Tensor, value: Tensor) -> None:
        """Keep the keys and values of a prompt, (1, heads, time, size)."""
        group = next(each for each in self.groups if each.rows.stop > index * self.count)
        if layer == len(group.keys):
            for part, like in ((group.keys, key), (group.values, value)):
                part.append(like.new_zeros(len(group.lengths), like.shape[1], group.longest, like.shape[3]))
        if layer == len(self.keys):
            for part, like in ((self.keys, key), (self.values, value)):
                part.append(like.new_empty(len(self.prompts) * self.count, like.shape[1], self.steps, like.shape[3]))
        at = index - group.rows.start // self.count
        group.keys[layer][at, :, : key.shape[2]], group.values[layer][at, :, : key.shape[2]] = key[0], value[0]

    def _attend_answers(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Return what one token of each answer sees: its prompt and itself, two sums under one softmax."""
        rows, num_heads, _, size = query.shape
        heads = key.shape[1]
        keys, values = (states[layer][:rows, :, : self.time + 1] for states in (self.keys, self.values))
        keys[:, :, -1], values[:, :, -1] = key[:, :, 0], value[:, :, 0]
        asked = (query * scaling).reshape(rows, heads, num_heads // heads, size)
        own = weighted(asked @ keys.transpose(-1, -2), values)
        seen = [
            merged(tuple(part[group.rows] for part in own), self._of_prompts(group, hidden, layer, asked[group.rows], heads))
            for group, hidden in zip(self.groups, self._hidden, strict=True)
        ]
        return torch.cat(seen).reshape(rows, num_heads, 1, value.shape[-1]).to(query.dtype)

    def _of_prompts(
        self, group: Group, hidden: Tensor | None, layer: int, asked: Tensor, heads: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        scores = group.scattered(asked) @ group.keys[layer].flatten(0, 1).transpose(-1, -2)
        if hidden is not None:
            scores.view(len(group.lengths), heads, *scores.shape[1:]).masked_fill_(hidden[:, None], -torch.inf)
        highest, total, seen = (group.gathered(each, heads) for each in weighted(scores, group.values[layer].flatten(0, 1)))
        return highest, total, seen


def weighted(scores: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the highest score, the sum of exp(score - highest) and the values' sum with these weights, of each query."""
    kind = scores.dtype
    scores = scores.float() if kind in (torch.float16, torch.bfloat16) else scores
    highest = scores.amax(-1, keepdim=True)
    weights = (scores - highest).exp_()
    return highest, weights.sum(-1, keepdim=True), weights.to(kind) @ values


def merged(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> Tensor:
    """Return the mean of values under one softmax over two sets of keys, each as `weighted` returns it."""
    highest = torch.maximum(one[0], other[0])
    share, others = (one[0] - highest).exp_(), (other[0] - highest).exp_()
    return (one[2] * share + other[2] * others) / (one[1] * share + other[1] * others)


def shared_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    shared_prompts: SharedPrompts | None = None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """Return attention of shape (rows, time, heads, size); without shared prompts it is the library's own SDPA."""
    if shared_prompts is None:
        plain: tuple[Tensor, Tensor | None] = SDPA(module, query, key, value, attention_mask, scaling=scaling, **others)
        return plain
    layer: Any = module.layer_idx
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return shared_prompts.attend(layer, query, key, value, scale).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, shared_attention)
AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
