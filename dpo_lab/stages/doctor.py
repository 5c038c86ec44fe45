"""The stage `doctor`: what a training will need, before it runs."""

import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpo_lab.alignment import Alignment
from dpo_lab.amounts import bytes_text, weights_text
from dpo_lab.components import RunError, component
from dpo_lab.data.base import GivenPairs
from dpo_lab.pipeline.real_model import ask_hub_early, refuse_unusable_model, template_notes
from dpo_lab.progress import say
from dpo_lab.rules.check import refuse_illegal, refuse_slowly
from dpo_lab.stages.train import refuse_unlabelled
from dpo_lab.training.callbacks import checkpoint_of

if TYPE_CHECKING:
    from dpo_lab.memory.plan import MemoryPlan
    from dpo_lab.models.load import ModelOnDisk
    from dpo_lab.tokens.store import TokenStore

ALWAYS = ("optimizer", "activations", "logits and products", "reference")
"""Rows of the memory plan that stand there though they are nothing: the optimizer's state comes with the first update."""
TESTED = 8  # pairs of the self-test


@component
class Doctor(Alignment):
    """Look at a training without running it: reference, memory, disk, lengths, the step-0 self-test, time."""

    def run(self) -> dict[str, Any]:
        """Print what the training will need; return its figures.

        Raises:
            ConfigError: if a part cannot work, alone or with the others.
            RunError: if it does not fit, with the smallest change that makes it fit.
        """
        ask_hub_early(self)
        refuse_illegal(self)
        refuse_unusable_model(self)
        refuse_slowly(self)
        from dpo_lab.memory import check as fits
        from dpo_lab.memory.check import memory_plan

        given = next(iter(self.data.load(self.iteration.rounds)), None)
        if given:
            refuse_unlabelled(self.loss, given.train, self.data.label)
        fits.check_fits(self, None)  # before a large model's tokenizer and data are worked on
        base, store = self._store(given)
        device = self.trainer.device()
        plan, has = memory_plan(self, store), fits.available(device)
        share = pairs_of_a_round(self, store) / store.num_pairs
        say(f"reference  {name_of(self.reference)}: {cost_of_reference(self, plan, store, share)}")
        say(*memory_lines(plan, has, device.type), *length_lines(store, self.data.max_length, known=given is not None))
        disk, free = disk_of(self, plan, store, share), free_disk(self.outputs)
        parts = ", ".join(f"{name} {bytes_text(value)}" for name, value in disk.items())
        say(f"disk       about {bytes_text(sum(disk.values()))} of {bytes_text(free)} free: {parts}")
        hours = fits.hours_of_1000_pairs(self, store, plan)
        say(f"time       an estimate: {hours:.2g} hours per 1000 pairs on this machine ({device.type})")
        takes = sum(disk.values())
        if plan.needed > has:
            change = fits.smallest_change(self, store, has)
            raise RunError(f"does not fit: {bytes_text(plan.needed)} of memory, {bytes_text(has)} available. Use {change}.")
        if takes > free:
            raise RunError(f"does not fit: {bytes_text(takes)} of disk, {bytes_text(free)} free. Use paths.outputs=DIR.")
        gap = self._step_0(given, base) if given and base else None
        agree = (
            "made in the run: the pairs are not there yet" if gap is None else f"policy and reference agree within {gap:.2g} nats"
        )
        say(f"step 0     {agree}")
        say("fits")
        figures = {"memory/peak": plan.peak, "memory/available": has, "disk/needed": takes, "hours": hours}
        return {**figures, "step_0_gap": gap}

    def _store(self, given: GivenPairs | None) -> "tuple[ModelOnDisk | None, TokenStore]":
        """Return the model and the token store of the first round; of pairs to be made, one with rows as long as they may be."""
        from dpo_lab.models.storage import storage_of
        from dpo_lab.pipeline.base_model import base_model
        from dpo_lab.pipeline.tokens import token_store

        if given is None:
            return None, longest_rows(self.data.max_length, 2 * self.trainer.batch_size)  # two steps
        storage = storage_of(self.model, self.precision, self.trainer.device())
        checkpoint = checkpoint_of(self.callbacks)
        base, made_here = base_model(
            self.model, self.data, given, root=self.outputs, seed=self.seed, storage=storage, checkpoint=checkpoint
        )
        name = f"{self.model.label}-{self.data.label}-round1"
        pairs = given.train[: self.trainer.max_pairs]  # as the run takes them
        store, made = token_store(pairs, self.data, base, root=self.outputs, name=name, force=False)
        of_template = () if made_here else template_notes(base, given.train)
        say(*(f"data       {note}" for note in (*given.notes, *of_template, *made.facts["notes"])))
        return base, store

    def _step_0(self, given: GivenPairs, base: "ModelOnDisk") -> float:
        """Return by how many nats policy and reference differ on a few pairs before the first step."""
        from dpo_lab.pipeline.policy import Round, step_0_gap
        from dpo_lab.pipeline.rounds import training_of
        from dpo_lab.pipeline.tokens import token_store

        with tempfile.TemporaryDirectory() as directory:
            looked_at = replace(self, outputs=Path(directory))
            some = given.train[:TESTED]
            store, _ = token_store(some, self.data, base, root=looked_at.outputs, name="doctor", force=False)
            return step_0_gap(training_of(looked_at), Round(1, "doctor", base, base, base), store)


def name_of(reference: Any) -> str:
    """Return a reference as `reference=` names it.

    >>> class PreviousAdapterReference: ...
    >>> name_of(PreviousAdapterReference())
    'previous_adapter'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(reference).__name__.removesuffix("Reference")).lower()


def pairs_of_a_round(alignment: Alignment, store: "TokenStore") -> int:
    """Return the pairs of a round: those of the store, or as many as a round's prompts can give."""
    if not alignment.data.makes_pairs:
        return store.num_pairs
    prompts = getattr(alignment.data.asks, "num_prompts", store.num_pairs)  # a user's own prompts may not say
    return min(prompts, alignment.trainer.max_pairs or prompts)


def cost_of_reference(alignment: Alignment, plan: "MemoryPlan", store: "TokenStore", share: float) -> str:
    """Return what the reference costs; `share`: pairs of a round for each pair of the store."""
    if not alignment.reference.compares:
        return "none is kept, none is scored"
    if not alignment.reference.scores_live:
        responses, stored = round(share * store.num_responses), bytes_text(share * 4 * len(store.response_ids))
        every = " in each round" if alignment.iteration.rounds > 1 else ""
        most = "at most " if alignment.data.makes_pairs else ""
        return f"one pass over {most}{responses} responses before training{every}, {most}{stored} on disk"
    second = f"{bytes_text(plan.reference)} beside the policy" if plan.reference else "no second model"
    return f"{second}, one forward more for every micro-batch"


def memory_lines(plan: "MemoryPlan", has: float, device: str) -> list[str]:
    """Return the table of the memory plan."""
    rows = [f"  {name:20} {bytes_text(value):>10}" for name, value in plan.rows.items() if value or name in ALWAYS]
    peaks = ", ".join(f"{name} {bytes_text(value)}" for name, value in plan.parts.items())
    weights, trained = weights_text(plan.held.parameters), weights_text(plan.held.trained)
    return [
        f"memory     {weights} weights, {trained} trained; training at its most:",
        *rows,
        f"  estimated peak {bytes_text(plan.peak)} ({peaks}); {device} has {bytes_text(has)}",
    ]


def length_lines(store: "TokenStore", max_length: int, *, known: bool) -> list[str]:
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


def disk_of(alignment: Alignment, plan: "MemoryPlan", store: "TokenStore", share: float) -> dict[str, float]:
    """Return the bytes that a run writes, by what; `share`: pairs of a round for each pair of the store."""
    rounds = alignment.iteration.rounds
    kept = max((getattr(each, "keep", 0) for each in alignment.callbacks.values()), default=0)
    ids = len(store.prompt_ids) + len(store.response_ids)
    return {
        "policies": 1.0 * plan.held.trained_bytes * rounds,
        "checkpoints": (kept + 1.0) * (plan.held.trained_bytes + plan.optimizer) if kept else 0.0,  # one more while it is written
        "reference": 8.0 * share * len(store.response_ids) * rounds
        if alignment.reference.compares and not alignment.reference.scores_live
        else 0.0,
        "tokens": 4.0 * share * ids * rounds,
    }


def free_disk(directory: Path) -> float:
    """Return the bytes free where a directory is or will be."""
    place = directory.absolute()
    while not place.exists():
        place = place.parent
    return float(shutil.disk_usage(place).free)


def longest_rows(max_length: int, pairs: int) -> "TokenStore":
    """Return a store of pairs with rows of so many tokens, a third of them the prompt's."""
    from dpo_lab.tokens.store import StoreBuilder

    builder = StoreBuilder()
    prompt = max(1, max_length // 3)
    for number in range(pairs):
        sides = [builder.add_response([number] * prompt, [side] * (max_length - prompt)) for side in (0, 1)]
        builder.add_item(sides)
    return builder.build()
