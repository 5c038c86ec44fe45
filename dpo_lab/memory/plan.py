"""The memory plan of a training: what each part takes, and the peak, before any weight is loaded."""

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from dpo_lab.alignment import Alignment
from dpo_lab.memory.tracing import Pass, extrapolated, follow
from dpo_lab.memory.weights import Held, architecture_of, bytes_in_file, held, outline, with_layers
from dpo_lab.models.adapter import NoAdapter
from dpo_lab.models.directory import ADAPTER_CONFIG
from dpo_lab.models.storage import Storage, storage_of
from dpo_lab.reference.base import Reference
from dpo_lab.reference.frozen import FrozenReference
from dpo_lab.scoring.passes import batches_of
from dpo_lab.seeding import derive
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.batches import item_batches
from dpo_lab.training.iteration import Iteration

FRAGMENTS = {"as they are": 0.4, "quantised": 0.85}
"""Share of what passes take that the heap holds beside it, in holes, by weights: the one thing here that is fitted, not derived.

glibc (2.36) asks for a tensor's bytes and 96 more, gives the ends back to small objects, and so a freed tensor's place is too
small for the next of its size; dequantised weights, made anew in each product, leave the most. Fitted and checked on the runs of
docs/benchmarks.md; a simulation of the heap did not find it (docs/log.md)."""
KERNELS = 1.2e8
"""Bytes that oneDNN keeps on a CPU for products in bf16, whose kernels it caches by shape, up to 1024 of them.

In the heap 80 to 160 MB were seen after two steps, half of it gone with ONEDNN_PRIMITIVE_CACHE_CAPACITY=8;
a long run may have more."""
ON_A_GPU = 0.1
"""The same of torch's own allocator; taken, not measured."""


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """What a training takes, in bytes."""

    held: Held
    optimizer: float
    at_once: float
    """What the optimizer makes while it changes the largest tensor."""
    passes: Pass
    accumulated: float
    """Gradients that are there when a pass begins; others are counted where they are made, in the passes."""
    updated: bool
    """Whether the optimizer's state is there then."""
    reference: float
    """Of a reference that is a model or an adapter of its own."""
    kept: float
    """Of models that earlier parts of the run have loaded and keep."""
    mapped: float
    """Of the weights' file, beside the weights: pages that loading touched, which the system takes back when it needs them."""
    read: float
    """Of the weights' file while it is read and converted."""
    beside_evaluated: float
    """Of the models beside the policy while held-out pairs are scored."""
    loads_evaluated: int
    """How many models are loaded for that."""
    kernels: float
    """Of the library of matrix products."""
    fragments: float
    """Share of the passes' memory that the allocator holds beside it."""
    ranking: float = 0.0
    """Of the models that rank and judge answers, while they do; the policy is released then."""
    processes: int = 1
    """How many of them share the memory."""

    @property
    def rows(self) -> dict[str, float]:
        """The parts of the training by name, at its worst moment; their sum is its peak."""
        passing = {
            "optimizer": self.optimizer * self.updated,
            "gradients": self.accumulated,
            "activations": self.passes.activations,
            "logits and products": self.passes.peak - self.passes.activations,
        }
        updating = {"optimizer": self.optimizer, "gradients": self.held.trained_bytes, "update": self.at_once}
        return {
            "weights": self.held.weights,
            **max(passing, updating, key=lambda moment: sum(moment.values())),
            "reference": self.reference,
            "other models": self.kept,
            "allocator": self.fragments * (self.passes.peak + self.accumulated if self.passes.peak else 0.0),
            "kernels": self.kernels,
            "file of the weights": self.mapped,
        }

    @cached_property
    def parts(self) -> dict[str, float]:
        """The peak of each part of a round."""
        return self._parts(self.mapped)

    def _parts(self, mapped: float) -> dict[str, float]:
        scored = self.passes.scoring * (1 + self.fragments)
        begun, again = self.held.weights + self.kept, (self.loads_evaluated - 1) * self.passes.cast
        return {
            "load": begun + max(mapped, self.read),
            **({"ranking": self.kept + self.ranking} if self.ranking else {}),
            "reference pass": begun + self.reference + mapped + scored,
            "training": sum(self.rows.values()) - self.mapped + mapped,
            "evaluation": begun
            + self.kernels
            + self.beside_evaluated
            + max(self.loads_evaluated * mapped + scored + again, self.read),
        }

    @property
    def peak(self) -> float:
        """The most at any moment, as a process's memory is counted."""
        return self.processes * max(self.parts.values())

    @property
    def needed(self) -> float:
        """The peak without what the system takes back."""
        return self.processes * max(self._parts(0.0).values())


def memory_plan(alignment: Alignment, store: TokenStore | None) -> MemoryPlan:
    """Return the memory plan of a training on a store's pairs; without one, of weights, gradients and optimizer alone."""
    device = alignment.trainer.device()
    on_cpu = device.type == "cpu"
    storage = storage_of(alignment.model, alignment.precision, device)
    config = architecture_of(alignment.model)
    whole = held(config, outline(config, alignment.model, storage), storage)
    # weights that are neither quantised nor converted are the file's own pages, and keep all of it mapped
    as_in_file = getattr(config, "dtype", None) == storage.dtype
    # torch's state has the format of the weights, bitsandbytes' has its own
    state = alignment.optim.bytes_per_weight * (whole.trained if alignment.optim.needs_bitsandbytes else whole.trained_bytes / 4)
    passes, moment = Pass(0, 0, 0, 0), Moment(accumulates=False, updated=False)
    if store:
        passes, moment = most(alignment, config, store, storage, device, whole.trained_bytes, state)
    reference, evaluated, loaded = beside(alignment, whole)
    return MemoryPlan(
        held=whole,
        optimizer=float(state),
        at_once=float(alignment.optim.bytes_at_once * whole.largest) if on_cpu else 0.0,
        passes=passes,
        accumulated=float(whole.trained_bytes * moment.accumulates),
        updated=moment.updated,
        reference=reference,
        kept=float(whole.weights * kept_models(alignment.iteration, alignment.reference)),
        mapped=float(whole.quantised) if on_cpu and as_in_file else 0.0,
        read=float(whole.parameters * bytes_in_file(config)) if on_cpu and not as_in_file else 0.0,
        beside_evaluated=evaluated,
        loads_evaluated=1 + loaded,
        kernels=KERNELS if store and on_cpu and alignment.precision.resolved(device) != "32-true" else 0.0,
        fragments=FRAGMENTS["quantised" if whole.quantised else "as they are"] if on_cpu else ON_A_GPU,
        ranking=max(part.bytes_needed(device.type) for part in (alignment.data, alignment.evaluation)),
        processes=alignment.trainer.devices if on_cpu else 1,
    )


def beside(alignment: Alignment, whole: Held) -> tuple[float, float, int]:
    """Return what stands beside the policy in training and in evaluation, and how many models the latter loads."""
    reference, weights = alignment.reference, float(whole.weights)
    adapted = not isinstance(alignment.model.adapter, NoAdapter)
    earlier = alignment.iteration.rounds > 1 or (Path(getattr(alignment.model, "path", "")) / ADAPTER_CONFIG).exists()
    if isinstance(reference, FrozenReference) or (reference.moves and not adapted):
        own = weights
    else:
        own = float(whole.trained_bytes) if reference.moves or (reference.keeps_adapter and earlier) else 0.0
    if not alignment.evaluation.on_pairs:
        return own, weights, 1  # answers are compared with those of the model before
    loaded = int(reference.compares and not reference.needs_adapter and not (reference.moves and adapted))
    return own, own + loaded * weights, loaded


def kept_models(iteration: Iteration, reference: Reference) -> int:
    """Return how many models stand beside a training because an earlier part loaded them and did not release them.

    Models that draw answers, rank them or are evaluated are released; one that a reference was scored with is not.
    """
    another = iteration.rounds > 1 and iteration.reference != iteration.start
    return int(another and reference.compares and not reference.needs_adapter)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When a micro-batch has its passes."""

    accumulates: bool
    """Gradients of those before in its step are there."""
    updated: bool
    """The optimizer has its state, which the first update makes."""


def most(
    alignment: Alignment, config: Any, store: TokenStore, storage: Storage, device: torch.device, gradients: float, state: float
) -> tuple[Pass, Moment]:
    """Return what the passes take that come to the most with what is there at their time, and when that is."""
    batches = batches_of(store, alignment.layout)
    scored = max(batches, key=lambda responses: alignment.layout.num_tokens(store, responses))

    def traced(responses: list[int], accumulates: bool, layers: int) -> Pass:
        return follow(
            outline(with_layers(config, layers), alignment.model, storage),
            alignment.layout,
            store,
            responses,
            scored=scored,
            device=device.type,
            half=alignment.precision.resolved(device) == "bf16-mixed",
            accumulates=accumulates,
            compares=alignment.reference.scores_live,
        )

    found = list[tuple[float, Pass, Moment]]()
    for responses, moment in largest(alignment, store):
        passes = extrapolated(partial(traced, responses, moment.accumulates), config.num_hidden_layers)
        found.append((passes.peak + gradients * moment.accumulates + state * moment.updated, passes, moment))
    return max(found, key=lambda each: each[0])[1:]


def largest(alignment: Alignment, store: TokenStore) -> list[tuple[list[int], Moment]]:
    """Return the responses of the micro-batches with the most tokens in the body and in the head, and when they come.

    Of those that begin a step and of the others, each in the order of the first epoch; of the first step where they are larger.
    """
    settings = alignment.trainer
    batches = item_batches(
        store,
        alignment.layout,
        batch_size=settings.batch_size,
        token_budget=settings.token_budget,
        epochs=1,
        seed=derive(alignment.seed, "round", 1),
        order=alignment.data.order,
    )
    again = settings.epochs > 1 and settings.max_steps != 1  # the first step's pairs come once more, after an update
    found: dict[Moment, list[list[int]]] = defaultdict(list)
    for number, step in enumerate(list(batches.sampler)[: settings.max_steps]):
        for position, items in enumerate(step):
            responses = list(dict.fromkeys(store.responses_of(items).tolist()))
            for updated in dict.fromkeys((number > 0, number > 0 or again)):
                found[Moment(accumulates=position > 0, updated=updated)].append(responses)

    def in_body(responses: list[int]) -> int:
        return alignment.layout.num_tokens(store, responses)

    def in_head(responses: list[int]) -> int:
        return int(store.response_lengths[responses].sum())

    chosen = list[tuple[list[int], Moment]]()
    for moment, candidates in found.items():
        later = [] if moment.updated else found.get(replace(moment, updated=True), [])
        for size in (in_body, in_head):
            one = max(candidates, key=size)
            if (one, moment) not in chosen and size(one) > max(map(size, later), default=0):
                chosen.append((one, moment))
    return chosen
