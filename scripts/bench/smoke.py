"""The part of the benchmark that needs no quiet machine: how many tokens each way sends through body and head."""

from collections.abc import Iterator
from typing import Any

import torch

from dpo_lab.layouts.base import ItemBatch, Layout
from dpo_lab.scoring.fitting import fitted
from dpo_lab.scoring.score import score
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.batches import item_batches
from scripts.bench import naive, task
from scripts.bench.meter import Meter
from scripts.bench.ours import LAYOUTS, token_store

EXPECTED = {
    "prefix": (3342, 1426),
    "packed": (5258, 1426),
    "padded": (13072, 1426),
    "naive": (13072, 13072),
}
"""Positions through body and head for all pairs, 8 pairs per pass: prompts once or twice, then padding, then all logits."""
WIDTH = 64  # of the model: the counts do not depend on it


def micro_batches(store: TokenStore, layout: Layout) -> Iterator[ItemBatch]:
    """Yield the pairs as one micro-batch per optimizer step."""
    made = item_batches(store, layout, batch_size=task.PAIRS_PER_STEP, token_budget=10**6, epochs=1, seed=0, order="as_given")
    for step in made.train_dataloader():
        yield from step


def counted(name: str) -> tuple[tuple[int, int], list[float]]:
    """Return the positions that a way sends through body and head, and each pair's chosen log-probability."""
    model: Any = task.language_model(layers=2, size=WIDTH)
    meter = Meter()
    meter.count_tokens(model.model, model.lm_head)
    sums = [0.0] * len(task.LENGTHS)
    if name == "naive":
        pairs = task.pairs()
        for start in range(0, len(pairs), task.PAIRS_PER_STEP):
            ids, labels, mask = naive.padded(pairs[start : start + task.PAIRS_PER_STEP])
            sums[start : start + task.PAIRS_PER_STEP] = naive.response_logps(model, ids, labels, mask).chunk(2)[0].tolist()
        return (meter.body_tokens, meter.head_tokens), sums
    store = token_store(task.pairs())
    how = fitted(model, LAYOUTS[name](), store)
    assert not how.notes, how.notes
    meter.begin_epoch()
    for batch in micro_batches(store, how.layout):
        scored = score(model, batch.rows)
        meter.head_tokens += len(scored.per_token)  # the head's weight is read without calling the head
        for pair, logp in zip(batch.ids.tolist(), scored.sums[batch.pairs[:, 0]].tolist(), strict=True):
            sums[pair] = logp  # a step is ordered by length
    return (meter.body_tokens, meter.head_tokens), sums


def smoke() -> list[str]:
    """Return a line for each way; raise AssertionError where a count or a log-probability is not what it has to be."""
    made = {name: counted(name) for name in EXPECTED}
    truth = torch.tensor(made["naive"][1])
    lines = []
    for name, (found, sums) in made.items():
        assert found == EXPECTED[name], f"{name}: {found} tokens through body and head, not {EXPECTED[name]}"
        gap = float((torch.tensor(sums) - truth).abs().max())
        assert gap < 1e-2, f"{name}: log-probabilities differ from the naive loop's by {gap:.2g} nats"
        lines.append(f"{name:8s} {found[0]:6d} tokens through the body {found[1]:6d} through the head")
    return lines
