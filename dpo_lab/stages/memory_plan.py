"""The memory plan of a training: what each part takes, and the peak, before any weight is loaded."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from dpo_lab.models.load import Storage
from dpo_lab.models.memory import Held, architecture_of, held, outline, with_layers
from dpo_lab.reference.frozen import FrozenReference
from dpo_lab.seeding import derive
from dpo_lab.stages.base_model import storage_of
from dpo_lab.tokens.store import TokenStore
from dpo_lab.training.batches import pair_batches
from dpo_lab.training.tracing import Pass, extrapolated, follow

if TYPE_CHECKING:
    from dpo_lab.stages.train import Train

FRAGMENTS = {"full": 0.2, "adapter": 0.4, "quantised": 0.95}
"""Share of what passes take that the allocator holds beside it, freed blocks into which the next tensors do not fit: measured
on two models with glibc, and gone when every block is a mapping of its own (docs/benchmarks.md)."""
ON_A_GPU = 0.1
"""The same of torch's own allocator; taken, not measured."""


@dataclass(frozen=True)
class MemoryPlan:
    """What a training takes, in bytes."""

    held: Held
    gradients: float
    optimizer: float
    passes: Pass
    reference: float
    """A second model's weights, if there is one."""
    mapped: float
    """Of the weights' file, beside the weights: pages that loading touched, which the system takes back when it needs them."""
    evaluated: float
    """A second model's weights while held-out pairs are scored."""
    fragments: float
    """Share of the passes' memory that the allocator holds beside it."""
    processes: int = 1
    """How many of them share the memory."""

    @property
    def rows(self) -> dict[str, float]:
        """The parts of the training by name; their sum is its peak."""
        return {
            "weights": self.held.weights,
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "activations": self.passes.activations,
            "logits and products": self.passes.peak - self.passes.activations,
            "reference": self.reference,
            "allocator": self.fragments * self.passes.peak,
            "file of the weights": self.mapped,
        }

    @cached_property
    def parts(self) -> dict[str, float]:
        """The peak of each part of a round."""
        scored = self.passes.scoring * (1 + self.fragments)
        return {
            "load": self.held.weights + self.mapped,
            "reference pass": self.held.weights + self.mapped + scored,
            "training": sum(self.rows.values()),
            "evaluation": self.held.weights + self.evaluated + self.mapped + scored,
        }

    @property
    def peak(self) -> float:
        """The most at any moment, as a process's memory is counted."""
        return self.processes * max(self.parts.values())

    @property
    def needed(self) -> float:
        """The peak without what the system takes back."""
        return self.peak - self.processes * self.mapped


def memory_plan(train: "Train", store: TokenStore | None) -> MemoryPlan:
    """Return the memory plan of a training on a store's pairs; without one, of weights, gradients and optimizer alone."""
    device = train.trainer.device()
    on_cpu = device.type == "cpu"
    storage = storage_of(train.model, train.precision, device)
    config = architecture_of(train.model)
    whole = held(config, outline(config, train.model, storage), storage)
    passes = passes_of(train, config, store, storage, device) if store else Pass(0, 0, 0)
    # weights that are neither quantised nor converted are the file's own pages, and keep all of it mapped
    mapped = whole.quantised if on_cpu and getattr(config, "dtype", None) == storage.dtype else 0
    way = "quantised" if whole.quantised else "full" if whole.trained == whole.parameters else "adapter"
    second = whole.weights if isinstance(train.reference, FrozenReference) else 0
    return MemoryPlan(
        held=whole,
        gradients=4.0 * whole.trained,
        optimizer=float(train.optim.bytes_per_weight * whole.trained),
        passes=passes,
        reference=float(second),
        mapped=float(mapped),
        evaluated=float(whole.weights) if train.evaluation.on_pairs and train.reference.compares else 0.0,
        fragments=FRAGMENTS[way] if on_cpu else ON_A_GPU,
        processes=train.trainer.devices if on_cpu else 1,
    )


def passes_of(train: "Train", config: Any, store: TokenStore, storage: Storage, device: torch.device) -> Pass:
    """Return what the passes over the largest micro-batches of an epoch take."""
    micro_batches, several = largest(train, store)

    def of(responses: list[int]) -> Pass:
        def trace(layers: int) -> Pass:
            return follow(
                outline(with_layers(config, layers), train.model, storage),
                train.layout,
                store,
                responses,
                device=device.type,
                half=train.precision.resolved(device) == "bf16-mixed",
                accumulates=several,
                compares=train.reference.scores_live,
            )

        return extrapolated(trace, config.num_hidden_layers)

    found = [of(responses) for responses in micro_batches]
    return Pass(*(max(getattr(each, name) for each in found) for name in ("activations", "peak", "scoring")))


def largest(train: "Train", store: TokenStore) -> tuple[list[list[int]], bool]:
    """Return the responses of the micro-batches with the most tokens in the body and in the head; whether steps have several."""
    settings = train.trainer
    batches = pair_batches(
        store,
        train.layout,
        batch_size=settings.batch_size,
        token_budget=settings.token_budget,
        epochs=1,
        seed=derive(train.seed, "round", 1),
        order=train.data.order,
    )
    steps = list(batches.sampler)
    found = [list(dict.fromkeys(store.pairs[each].flatten().tolist())) for step in steps for each in step]
    most = [
        max(found, key=lambda responses: train.layout.num_tokens(store, responses)),
        max(found, key=lambda responses: int(store.response_lengths[responses].sum())),
    ]
    return most[: 1 if most[0] == most[1] else 2], any(len(step) > 1 for step in steps)
