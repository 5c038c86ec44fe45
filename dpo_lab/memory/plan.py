"""The memory plan of a training: what each part takes, and the peak, before any weight is loaded."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch

from dpo_lab.data.base import Order
from dpo_lab.evaluation.base import Measure
from dpo_lab.layouts.base import Layout
from dpo_lab.memory.tracing import Pass, extrapolated, follow
from dpo_lab.memory.weights import Held, architecture_of, outline, with_layers
from dpo_lab.models.spec import ModelSpec
from dpo_lab.models.storage import Storage
from dpo_lab.reference.base import Reference
from dpo_lab.scoring.passes import batches_of
from dpo_lab.seeding import derive
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.batches import item_batches
from dpo_lab.training.iteration import Iteration
from dpo_lab.training.settings import TrainerSettings

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

NOTHING = Pass(0, 0, 0, 0)
"""Of a training whose pairs are not known yet."""


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
    """Of a reference that is a separate model or adapter."""
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


def beside(reference: Reference, evaluation: Measure, whole: Held, *, adapted: bool, earlier: bool) -> tuple[float, float, int]:
    """Return what stands beside the policy in training and in evaluation, and how many models the latter loads.

    Args:
        adapted: whether the policy is a base with an adapter.
        earlier: whether an adapter was trained on that base before.
    """
    weights = float(whole.weights)
    if reference.copies_model or (reference.moves and not adapted):
        own = weights
    else:
        own = float(whole.trained_bytes) if reference.moves or (reference.keeps_adapter and earlier) else 0.0
    if evaluation.every and evaluation.asks:
        own += weights  # answers of the policy in training, too
    if not evaluation.on_pairs:
        return own, weights, 1  # answers are compared with those of the model before
    loaded = int(reference.compares and not reference.needs_adapter and not (reference.moves and adapted))
    if evaluation.asks:  # both: one after the other
        return own, max(weights, own + loaded * weights), max(1, loaded)
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
    moments: Sequence[tuple[list[int], Moment]], passes_of: Callable[[list[int], bool], Pass], *, gradients: float, state: float
) -> tuple[Pass, Moment]:
    """Return the passes that come to the most with what is there at their time, and when that is.

    Args:
        moments: responses of micro-batches, and when they have their passes.
        passes_of: what the passes over responses take; told whether gradients are there.
        gradients: bytes of all gradients.
        state: bytes of the optimizer's state.
    """

    def total(found: tuple[Pass, Moment]) -> float:
        passes, moment = found
        return passes.peak + gradients * moment.accumulates + state * moment.updated

    return max(((passes_of(responses, moment.accumulates), moment) for responses, moment in moments), key=total)


def followed(
    spec: ModelSpec,
    storage: Storage,
    store: TokenStore,
    layout: Layout,
    device: torch.device,
    *,
    half: bool,
    compares: bool,
    head_tokens: int | None = None,
) -> Callable[[list[int], bool], Pass]:
    """Return what tells the passes of a policy over responses of a store; told whether gradients are there when they begin.

    Args:
        half: whether products are computed in bf16 or fp16.
        compares: whether a reference is scored between the passes.
        head_tokens: response tokens that the head takes at a time in training; None: the default.
    """
    config = architecture_of(spec)
    scored = max(batches_of(store, layout), key=lambda responses: layout.num_tokens(store, responses))

    def traced(responses: list[int], accumulates: bool, layers: int) -> Pass:
        return follow(
            outline(with_layers(config, layers), spec, storage),
            layout,
            store,
            responses,
            scored=scored,
            device="cuda" if device.type == "cuda" and torch.cuda.is_available() else "cpu",  # of a GPU elsewhere: the CPU's
            half=half,
            accumulates=accumulates,
            compares=compares,
            head_tokens=head_tokens,
        )

    return lambda responses, accumulates: extrapolated(partial(traced, responses, accumulates), config.num_hidden_layers)


def largest(
    store: TokenStore, layout: Layout, settings: TrainerSettings, order: Order, seed: int
) -> list[tuple[list[int], Moment]]:
    """Return the responses of the micro-batches with the most tokens in the body and in the head, and when they come.

    Of those that begin a step and of the others, each in the order of the first epoch; of the first step where they are larger.
    """
    batches = item_batches(
        store,
        layout,
        batch_size=settings.batch_size,
        token_budget=settings.token_budget,
        epochs=1,
        seed=derive(seed, "round", 1),
        order=order,
    )
    again = settings.epochs > 1 and settings.max_steps != 1  # the first step's pairs come once more, after an update
    candidates_at: dict[Moment, list[list[int]]] = defaultdict(list)
    for number, step in enumerate(list(batches.sampler)[: settings.max_steps]):
        for position, items in enumerate(step):
            responses = list(dict.fromkeys(store.responses_of(items).tolist()))
            for updated in dict.fromkeys((number > 0, number > 0 or again)):
                candidates_at[Moment(accumulates=position > 0, updated=updated)].append(responses)

    def in_body(responses: list[int]) -> int:
        return layout.num_tokens(store, responses)

    def in_head(responses: list[int]) -> int:
        return int(store.response_lengths[responses].sum())

    chosen = list[tuple[list[int], Moment]]()
    for moment, candidates in candidates_at.items():
        later = [] if moment.updated else candidates_at.get(replace(moment, updated=True), [])
        for size in (in_body, in_head):
            one = max(candidates, key=size)
            if (one, moment) not in chosen and size(one) > max(map(size, later), default=0):
                chosen.append((one, moment))
    return chosen
