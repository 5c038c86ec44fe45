"""Whether a training fits this machine, how long it takes, and the smallest change that makes it fit."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dpo_lab.alignment import Alignment
from dpo_lab.amounts import bytes_of, bytes_text, weights_text
from dpo_lab.components import ConfigError, RunError
from dpo_lab.layouts.base import Layout
from dpo_lab.memory.changes import smaller_model, smallest
from dpo_lab.memory.lines import memory_lines, uncounted_lines
from dpo_lab.memory.loading import CLEARLY
from dpo_lab.memory.loading import available as available
from dpo_lab.memory.plan import (
    FRAGMENTS,
    KERNELS,
    NOTHING,
    ON_A_GPU,
    MemoryPlan,
    Moment,
    beside,
    followed,
    kept_models,
    largest,
    most,
)
from dpo_lab.memory.weights import architecture_of, bytes_in_file, held, outline
from dpo_lab.models.directory import ADAPTER_CONFIG
from dpo_lab.models.storage import storage_of
from dpo_lab.progress import say
from dpo_lab.tokens.store import TokenStore

LARGE = 1_000_000_000  # weights from which training without a GPU is a matter of hours
REACHED = 0.6  # share of a matrix product's speed that training reaches (docs/benchmarks.md)
CONTEXT = 0.5e9
"""Bytes of a card that CUDA and its libraries take for a process; assumed, not measured."""


def memory_plan(alignment: Alignment, store: TokenStore | None) -> MemoryPlan:
    """Return the memory plan of a training on a store's pairs; without one, of weights, gradients and optimizer alone."""
    model, reference, optim, device = alignment.model, alignment.reference, alignment.optim, alignment.trainer.device()
    on_cpu = device.type == "cpu"
    storage = storage_of(model, alignment.precision, device)
    config = architecture_of(model)
    whole = held(config, outline(config, model, storage), storage)
    # weights that are neither quantised nor converted are the file's own pages, and keep all of it mapped
    as_in_file = getattr(config, "dtype", None) == storage.dtype
    # torch's state has the format of the weights, bitsandbytes' has its own
    state = float(optim.bytes_per_weight * (whole.trained if optim.needs_bitsandbytes else whole.trained_bytes / 4))
    passes, moment = NOTHING, Moment(accumulates=False, updated=False)
    at_once = float(optim.bytes_at_once * whole.largest) if on_cpu else 0.0
    if optim.needs_gpu:  # it is paged: the state of one tensor at a time has to be there; the host's memory is not looked at
        state, at_once = 0.0, float(optim.bytes_per_weight * whole.largest)
    mixed = alignment.precision.resolved(device)
    if store:
        moments = largest(store, alignment.layout, alignment.trainer, alignment.data.order, alignment.seed)
        compares, half = reference.scores_live, alignment.precision.in_products(device) is not None
        chunk = alignment.trainer.head_tokens
        passes_of = followed(model, storage, store, alignment.layout, device, half=half, compares=compares, head_tokens=chunk)
        passes, moment = most(moments, passes_of, gradients=float(whole.trained_bytes), state=state)
    adapted, pretrained = not model.adapter.trains_all, model.pretrained
    earlier = alignment.iteration.rounds > 1 or bool(pretrained and (Path(pretrained.path) / ADAPTER_CONFIG).exists())
    own, evaluated, loaded = beside(reference, alignment.evaluation, whole, adapted=adapted, earlier=earlier)
    return MemoryPlan(
        held=whole,
        optimizer=state,
        at_once=at_once,
        passes=passes,
        accumulated=float(whole.trained_bytes * moment.accumulates),
        updated=moment.updated,
        reference=own,
        kept=float(whole.weights * kept_models(alignment.iteration, reference)),
        mapped=float(whole.quantised) if on_cpu and as_in_file else 0.0,
        read=float(whole.parameters * bytes_in_file(config)) if on_cpu and not as_in_file else 0.0,
        beside_evaluated=evaluated,
        loads_evaluated=1 + loaded,
        kernels=KERNELS if store and on_cpu and mixed != "32-true" else 0.0,
        fragments=FRAGMENTS["quantised" if whole.quantised else "as they are"] if on_cpu else ON_A_GPU,
        ranking=max(part.bytes_needed(device.type) for part in (alignment.data, alignment.evaluation)),
        processes=alignment.trainer.devices if on_cpu else 1,
    )


def with_layers(alignment: Alignment, *, again: bool) -> Alignment:
    """Return a training whose layers are computed again in the backward pass, or are not."""
    return replace(alignment, model=replace(alignment.model, checkpointing=again))  # type: ignore[type-var]  # a dataclass


def layers_again(alignment: Alignment, store: TokenStore, has: float | None = None) -> tuple[bool, str]:
    """Return whether layers are computed again in the backward pass, and with model.checkpointing=auto why, for the screen.

    Args:
        has: bytes of memory; None: what its device has now.
    """
    if alignment.model.checkpointing != "auto":
        return alignment.model.checkpointing, ""
    has = available(alignment.trainer.device()) if has is None else has
    without, name = with_layers(alignment, again=False), "model.checkpointing=auto"
    try:
        if memory_plan(without, None).needed + crude(without, store) <= has:
            return False, f"{name}: false, since the training fits without"
        needed = memory_plan(without, store).needed
        if needed <= has:
            return False, f"{name}: false, since the training fits without ({bytes_text(needed)} of {bytes_text(has)})"
        less = memory_plan(with_layers(alignment, again=True), store).needed
    except Exception as error:  # an architecture that cannot be followed, or that cannot compute its layers again
        return False, f"{name}: false, since this model cannot be planned with it ({' '.join(str(error).split())[:200]})"
    if less >= needed:
        return False, f"{name}: false, since it saves nothing here"
    return True, f"{name}: true, {bytes_text(less)} of memory in place of {bytes_text(needed)}, of {bytes_text(has)}"


def as_decided(alignment: Alignment, store: TokenStore, has: float) -> tuple[Alignment, MemoryPlan, list[str]]:
    """Return a training as the memory plan decides about its layers, its plan, and the line that says so, if any."""
    again, why = layers_again(alignment, store, has)
    planned = with_layers(alignment, again=again)
    return planned, memory_plan(planned, store), [f"layers     {why}"] if why else []


def smallest_change(alignment: Alignment, store: TokenStore | None, limit: float) -> str:
    """Return the first change with which a training needs no more than a limit; if none does, a smaller model."""
    found = smallest(
        alignment,
        needed=lambda changed: memory_plan(changed, store).needed,
        at_least=lambda changed: memory_plan(changed, None).needed,
        has=limit,
        longest=longest_pair(alignment.layout, store) if store else 0,
    )
    return found or smaller_model(alignment.model.label, memory_plan(alignment, None).held.parameters)


def longest_pair(layout: Layout, store: TokenStore) -> int:
    """Return the tokens of a pass over the longest item of a store."""
    longest = int(store.item_lengths.argmax())
    return layout.num_tokens(store, store.responses_of([longest]).tolist())


def refuse_above(has: float, alignment: Alignment, store: TokenStore, plan: MemoryPlan, *, where: str) -> None:
    """Raise RunError if a plan needs more than there is, with the smallest change that makes it fit."""
    if plan.needed > has:
        change = smallest_change(alignment, store, has)
        raise RunError(f"does not fit: {bytes_text(plan.needed)} of memory, {where} has {bytes_text(has)}. Use {change}.")


def refusal(alignment: Alignment, store: TokenStore | None, plan: MemoryPlan, has: float) -> str:
    """Return why a training does not fit and what makes it fit, or an empty text."""
    if plan.needed <= CLEARLY * has:
        return ""
    part = max(plan.parts, key=lambda name: plan.parts[name])
    where = "the GPU" if alignment.trainer.device().type == "cuda" else "this machine"
    least = "" if store else " at least"
    return (
        f"model={alignment.model.label} needs{least} {bytes_text(plan.needed)} for {part}, and {where} has {bytes_text(has)}. "
        f"Use {smallest_change(alignment, store, has)}; `dpo-lab doctor` shows the plan."
    )


def check_fits(alignment: Alignment, store: TokenStore | None) -> None:
    """Say nothing if a training fits; one line if it will take hours without a GPU, or if nobody knows whether it fits.

    Args:
        store: the pairs; None before they are known: then weights, gradients and optimizer alone are counted.

    Raises:
        ConfigError: if it needs clearly more memory than there is, with the smallest change that makes it fit.
    """
    device = alignment.trainer.device()
    has = available(device)
    try:
        plan = memory_plan(alignment, None)
        if store and plan.needed + crude(alignment, store) > has:
            plan = memory_plan(alignment, store)
    except ConfigError:
        raise
    except Exception as error:  # an architecture that cannot be followed: nothing is refused
        if store:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
            say(f"  memory is not estimated: this model cannot be followed without its weights ({reason})")
        return
    if message := refusal(alignment, store, plan, has):
        raise ConfigError(message)
    if store and device.type == "cpu" and plan.held.parameters >= LARGE:
        hours = hours_of_1000_pairs(alignment, store, plan)
        size = f"{weights_text(plan.held.parameters)} weights and no GPU"
        smaller = smaller_model(alignment.model.label, plan.held.parameters)
        say(f"  {size}: works, about {hours:.2g} hours per 1000 pairs here; try {smaller}")


def disk_of_policies(alignment: Alignment) -> float:
    """Return the bytes that a run writes at least: the policies of its rounds, and the checkpoint of one; 0 if nobody knows."""
    try:
        plan = memory_plan(alignment, None)
    except ConfigError:
        raise
    except Exception:  # an architecture that cannot be followed: nothing is refused
        return 0.0
    saves = any(callback.saves for callback in alignment.callbacks.values())
    checkpoint = plan.held.trained_bytes + plan.optimizer if saves else 0.0
    return float(plan.held.trained_bytes * alignment.iteration.rounds + checkpoint)


def crude(alignment: Alignment, store: TokenStore) -> float:
    """Return more than the passes of any decoder take, from a few numbers: where even that fits, nothing is followed."""
    config = architecture_of(alignment.model)
    tokens = max(alignment.trainer.token_budget, 2 * int(store.row_lengths.max()))
    width = 30 * config.hidden_size + 10 * (getattr(config, "intermediate_size", None) or 4 * config.hidden_size)
    numbers = tokens * config.num_hidden_layers * width + 2**27 + 4 * config.vocab_size * config.hidden_size
    return float(2 * 4 * numbers)


def hours_of_1000_pairs(alignment: Alignment, store: TokenStore, plan: MemoryPlan) -> float:
    """Return an estimate: products with every weight for every token, at the speed of a matrix product measured now.

    Forward, gradient by input, gradient by weight where weights are trained, and the reference's forward: 2 operations each.
    """
    products = 2 + (plan.held.trained > plan.held.parameters / 2) + bool(alignment.reference.compares)
    responses = list(dict.fromkeys(store.item_responses.tolist()))
    tokens = alignment.layout.num_tokens(store, responses) / store.num_items
    operations = 2.0 * products * plan.held.parameters * tokens * 1000
    device = alignment.trainer.device()
    rate = REACHED * gemm_rate(device, alignment.precision.in_products(device) or torch.float32)
    return float(operations / rate / 3600)


def gemm_rate(device: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    """Return the operations per second of a square matrix product, the best of three."""
    left = torch.ones(size, size, dtype=dtype, device=device)
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        float((left @ left)[0, 0])  # waits for the device
        seconds.append(time.perf_counter() - began)
    return float(2 * size**3 / min(seconds[1:]))


def on_a_gpu(alignment: Alignment) -> Alignment:
    """Return a training as it would be on a GPU."""
    return replace(alignment, trainer=replace(alignment.trainer, accelerator="gpu"))


def plan_elsewhere(alignment: Alignment, store: TokenStore, memory: str) -> dict[str, Any]:
    """Print the plan of a training on a GPU of some memory; return its figures.

    Args:
        memory: of the card, such as 16GB.

    Raises:
        RunError: if it does not fit, with the smallest change that makes it fit.
    """
    there, has = on_a_gpu(alignment), bytes_of(memory) - CONTEXT
    there, plan, why = as_decided(there, store, has)
    say(*why, *memory_lines(plan, has, f"a GPU of {memory}, less {bytes_text(CONTEXT)} for CUDA,"), *uncounted_lines(alignment))
    refuse_above(has, there, store, plan, where=f"a GPU of {memory}")
    say(f"fits a GPU of {memory}; computed, not tried")
    return {"memory/peak": plan.peak, "memory/available": has}
