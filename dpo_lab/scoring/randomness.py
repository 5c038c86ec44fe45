"""What a model does in train mode alone, such as drawing random numbers: found by trying, and switched off in its modules."""

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dpo_lab.components import RunError
from dpo_lab.scoring.rounding import rounding

ADAPTER_DROPOUT = "lora_dropout"
"""Dropout of an adapter: a choice of the user, seeded for every micro-batch."""
SHOWN = 3  # names of modules in a message


DRAWS, CHANGES, DIFFERS = "draws random numbers", "changes what it computes with", "computes otherwise"
LARGEST_BUFFER = 2**22  # elements; larger ones are tables or quantised weights, and a copy of them would take memory


@dataclass
class Pass:
    """What a forward pass in train mode gave."""

    result: Tensor
    drew: bool
    """Whether one of the process's random generators moved."""
    modules: dict[str, nn.Module] = field(default_factory=dict)
    """The modules that moved one themselves, by name."""
    outputs: list[tuple[str, str]] = field(default_factory=list)
    """Names of the modules in the order in which they ended, with digests of their outputs."""


def without_randomness(model: nn.Module, scored: Callable[[], Tensor]) -> tuple[str, ...]:
    """Let a model compute in train mode what it computes in evaluation mode; return what was switched off, a line for each kind.

    Reference and earlier policy are scored in evaluation mode, so a policy that draws while it is trained (router jitter, layer
    drop, expert sampling) or takes its statistics from the rows of a batch (BatchNorm) would be compared with another model. Two
    passes in train mode, with gradients as in training, have to agree to the bit, to draw nothing, to leave the model's buffers
    as they are, and to agree with evaluation mode. Modules that do otherwise compute in evaluation mode from then on; their
    children do not.

    Args:
        scored: runs the model on a few rows and returns log-probabilities.

    Raises:
        RunError: if a module draws in evaluation mode too: nothing switches it off.
    """
    held: dict[str, tuple[str, nn.Module]] = {}
    with _as_trained(model), generators_kept(next(model.parameters()).device), _with_gradients():
        while True:
            with _buffers_kept(model) as changed:
                repeats = _repeats(model, scored)
                what, sources = (DRAWS, {}) if repeats else (DRAWS, _sources(model, scored))
            if repeats and changed:
                what, sources = CHANGES, changed
            elif repeats:
                what, sources = DIFFERS, _unlike_evaluation(model, scored)
            new = {name: (what, module) for name, module in sources.items() if name not in held}
            if not new and not repeats:
                raise RunError(_refusal({**{name: module for name, (_, module) in held.items()}, **sources}))
            if not new:
                break
            for _, module in new.values():
                module.register_forward_pre_hook(_in_evaluation_mode)
            held |= new
    kinds = sorted({(type(module).__name__, what) for what, module in held.values()})
    return tuple(
        f"{kind} {what} while it is trained: switched off "
        f"({_some(kind, {name: module for name, (why, module) in held.items() if why == what})})"
        for kind, what in kinds
    )


def _in_evaluation_mode(module: nn.Module, inputs: Any) -> None:
    module.training = False  # of this module alone, whatever `train()` has set since


def _repeats(model: nn.Module, scored: Callable[[], Tensor]) -> bool:
    """Return whether two passes draw nothing and agree: to the bit on a CPU, up to rounding where sums have no fixed order."""
    device = next(model.parameters()).device
    before = _states(device)
    one, other = scored(), scored()
    if not _same(before, _states(device)):
        return False
    if device.type == "cpu" or torch.equal(one, other):
        return torch.equal(one, other)
    return bool(((one - other).abs() <= rounding(model, torch.ones(one.shape, device=device))).all())


def _sources(model: nn.Module, scored: Callable[[], Tensor]) -> dict[str, nn.Module]:
    """Return the modules that draw, by name; where no known generator moves, those whose kind first gives other outputs."""
    first_pass = _watched(model, scored)
    if first_pass.drew:
        return first_pass.modules
    pairs = zip(first_pass.outputs, _watched(model, scored).outputs, strict=False)
    differing = [(first, second) for (first, made), (second, again) in pairs if (first, made) != (second, again)]
    if not differing:
        return {}
    modules = dict(model.named_modules())
    first, second = (name.split(".") for name in differing[0])
    common = [
        part for part, other in zip(first, second, strict=False) if part == other
    ]  # where one was skipped: what is around both
    kind = type(modules[".".join(common)])
    return {name: module for name, module in modules.items() if type(module) is kind}


def _unlike_evaluation(model: nn.Module, scored: Callable[[], Tensor]) -> dict[str, nn.Module]:
    """Return the modules of the kind that first computes otherwise in train mode than in evaluation mode, beyond rounding."""
    with _buffers_kept(model):
        trained = scored().detach()
        with _evaluated(model):
            evaluated = scored().detach()
        if bool(((trained - evaluated).abs() <= rounding(model, torch.ones_like(trained))).all()):
            return {}
        outputs = _watched(model, scored).outputs
        with _evaluated(model):
            others = _watched(model, scored).outputs
    modules = dict(model.named_modules())
    differing = (name for (name, made), (_, other) in zip(outputs, others, strict=False) if made != other)
    first = next(differing, None)
    kind = None if first is None else type(modules[first])
    return {name: module for name, module in modules.items() if type(module) is kind}


def _watched(model: nn.Module, scored: Callable[[], Tensor]) -> Pass:
    """Return a pass in which every module was watched: a generator that moves between two events moved in the inner module."""
    device = next(model.parameters()).device
    names = {module: name for name, module in model.named_modules()}
    running: list[nn.Module] = [model]
    seen = Pass(torch.empty(0), drew=False)
    state = _states(device)

    def moved() -> None:
        nonlocal state
        now = _states(device)
        if not _same(state, now):
            seen.drew = True
            seen.modules[names[running[-1]]] = running[-1]
            state = now

    def begins(module: nn.Module, inputs: Any) -> None:
        moved()
        running.append(module)

    def ends(module: nn.Module, inputs: Any, outputs: Any) -> None:
        moved()
        running.pop()
        seen.outputs.append((names[module], "" if seen.drew else _digest(outputs)))

    hooks = [hook for module in names for hook in _around(module, begins, ends)]
    try:
        seen.result = scored()
        moved()
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _around(module: nn.Module, begins: Any, ends: Any) -> tuple[Any, Any]:
    """Return hooks before and after a module's forward pass, outside of any other hook of it."""
    return module.register_forward_pre_hook(begins, prepend=True), module.register_forward_hook(ends)


def _digest(value: Any) -> str:
    """Return a digest of the tensors in a module's outputs."""
    digest = hashlib.blake2b()
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Tensor):
            digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        elif hasattr(part, "values") or isinstance(part, list | tuple):
            waiting.extend(part.values() if hasattr(part, "values") else part)
    return digest.hexdigest()


def _states(device: torch.device) -> list[Any]:
    """Return where the process's random generators stand."""
    numpy: Any = np.random.get_state(legacy=True)
    own = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *own, random.getstate(), torch.from_numpy(numpy[1].astype(np.int64)), numpy[2:]]


def _same(one: list[Any], other: list[Any]) -> bool:
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(one, other, strict=True))


@contextmanager
def _as_trained(model: nn.Module) -> Iterator[None]:
    """Set train mode for the block, but for the dropout of adapters."""
    with _modes_kept(model):
        model.train()
        for name, module in model.named_modules():
            if ADAPTER_DROPOUT in name.split("."):
                module.eval()
        yield


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode for the block."""
    with _modes_kept(model):
        model.eval()
        yield


@contextmanager
def _modes_kept(model: nn.Module) -> Iterator[None]:
    """Give every module back the mode that it had before the block."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _with_gradients() -> Iterator[None]:
    """Let passes know that gradients are taken, as in training, and keep nothing for them."""
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(lambda tensor: None, lambda kept: kept):
        yield


@contextmanager
def _buffers_kept(model: nn.Module) -> Iterator[dict[str, nn.Module]]:
    """Put the model's buffers back after the block, and fill what is yielded with the modules whose buffers changed, by name."""
    kept = [
        (name, module, key, buffer, buffer.clone())
        for name, module in model.named_modules()
        for key, buffer in module.named_buffers(recurse=False)
        if buffer.numel() <= LARGEST_BUFFER
    ]
    changed: dict[str, nn.Module] = {}
    try:
        yield changed
    finally:
        with torch.no_grad():
            for name, module, key, buffer, before in kept:
                now = getattr(module, key)
                if now.shape != before.shape or not torch.equal(now, before):
                    changed[name] = module
                    module._buffers[key] = buffer.copy_(before)


@contextmanager
def generators_kept(device: torch.device) -> Iterator[None]:
    """Put the process's random generators back after the block."""
    own, theirs = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(own)
            np.random.set_state(theirs)


def _some(kind: str, modules: dict[str, nn.Module]) -> str:
    """Return a few names of the modules of a kind."""
    names = [name or "the whole model" for name, module in modules.items() if type(module).__name__ == kind]
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _refusal(modules: dict[str, nn.Module]) -> str:
    kinds = sorted({type(module).__name__ for module in modules.values()})
    where = "; ".join(f"{kind}: {_some(kind, modules)}" for kind in kinds) or "in no module that could be found"
    return (
        f"the model draws random numbers in every forward pass, also in evaluation mode ({where}). Its log-probabilities do not "
        "repeat, so policy and reference cannot be compared. Use a model.path whose config.json switches this noise off."
    )
