"""The lines about a training that has not run: its reference, its memory, its lengths."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from dpo_lab.amounts import bytes_text, weights_text
from dpo_lab.components import Component, parts_of
from dpo_lab.memory.plan import MemoryPlan
from dpo_lab.reference.base import Reference
from dpo_lab.tokens.store import TokenStore

ALWAYS = ("optimizer", "activations", "logits and products", "reference")
"""Rows of the memory plan that stand there though they are nothing: the optimizer's state comes with the first update."""


def name_of(reference: Any) -> str:
    """Return a reference as `reference=` names it.

    >>> class PreviousAdapterReference: ...
    >>> name_of(PreviousAdapterReference())
    'previous_adapter'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(reference).__name__.removesuffix("Reference")).lower()


def reference_line(reference: Reference, plan: MemoryPlan, store: TokenStore, share: float, *, rounds: int, made: bool) -> str:
    """Return what the reference costs.

    Args:
        share: pairs of a round for each pair of the store.
        made: whether pairs are made in each round, at most so many.
    """
    return f"reference  {name_of(reference)}: {cost_of(reference, plan, store, share, rounds=rounds, made=made)}"


def cost_of(reference: Reference, plan: MemoryPlan, store: TokenStore, share: float, *, rounds: int, made: bool) -> str:
    """Return the second half of that line."""
    if not reference.compares:
        return "none is kept, none is scored"
    if not reference.scores_live:
        responses, stored = round(share * store.num_responses), bytes_text(share * 4 * len(store.response_ids))
        every, most = " in each round" if rounds > 1 else "", "at most " if made else ""
        return f"one pass over {most}{responses} responses before training{every}, {most}{stored} on disk"
    second = f"{bytes_text(plan.reference)} beside the policy" if plan.reference else "no second model"
    return f"{second}, one forward more for every micro-batch"


def memory_lines(plan: MemoryPlan, has: float, device: str) -> list[str]:
    """Return the table of the memory plan."""
    rows = [f"  {name:20} {bytes_text(value):>10}" for name, value in plan.rows.items() if value or name in ALWAYS]
    peaks = ", ".join(f"{name} {bytes_text(value)}" for name, value in plan.parts.items())
    weights, trained = weights_text(plan.held.parameters), weights_text(plan.held.trained)
    return [
        f"memory     {weights} weights, {trained} trained; training at its most:",
        *rows,
        f"  estimated peak {bytes_text(plan.peak)} ({peaks}); {device} has {bytes_text(has)}",
    ]


def uncounted_lines(training: Component) -> list[str]:
    """Return a line for each model of a ranker, a judge or a sampler whose size the plan does not know."""
    parts = ((key, part, part.not_counted()) for key, part in parts_of(training))
    return [
        f"memory     {key}={getattr(part, 'label', key)} is not in the plan, its size is unknown: {why}"
        for key, part, why in parts
        if why
    ]


def disk_line(written: Mapping[str, float], free: float) -> str:
    """Return what a training writes, by what it is, against what is free."""
    parts = ", ".join(f"{name} {bytes_text(value)}" for name, value in written.items())
    return f"disk       about {bytes_text(sum(written.values()))} of {bytes_text(free)} free: {parts}"


def length_lines(store: TokenStore, max_length: int, *, known: bool) -> list[str]:
    """Return statistics of lengths and of what truncation does."""
    if not known:
        return [f"lengths    not known before answers are drawn; rows of data.max_length={max_length} tokens are planned for"]
    rows = store.row_lengths[np.unique(store.item_responses)]
    named = (("prompts", store.prompt_lengths), ("responses", store.response_lengths), ("rows", rows))

    def line(name: str, lengths: Any) -> str:
        p50, p95 = np.percentile(lengths, (50, 95))
        return f"{name} {p50:.0f}/{p95:.0f}/{lengths.max()}"

    full = float((rows >= max_length).mean())
    statistics = ", ".join(line(*each) for each in named)
    return [f"lengths    tokens p50/p95/max: {statistics}; {full:.1%} of {len(rows)} rows fill or were cut to {max_length}"]
