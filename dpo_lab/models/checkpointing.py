"""Activation checkpointing: each layer of a model is computed again in the backward pass in place of keeping what it made."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from dpo_lab.components import ConfigError
from dpo_lab.durable_files import write_durably

DECISION = "checkpointing.json"
"""Whether layers are computed again, while a training is unfinished: it resumes as it began, whatever memory is free then."""


def decided_once(directory: Path, decide: Callable[[], tuple[bool, str]]) -> tuple[bool, str]:
    """Return a decision and why, for the screen; of a training that is resumed the one that it began with.

    Args:
        directory: of the unfinished training.
        decide: makes the decision; an empty text says that the user did, whose word counts at every call.
    """
    path = directory / DECISION
    again, why = decide()
    if why and path.is_file():
        again = bool(json.loads(path.read_text(encoding="utf-8"))["again"])
        return again, f"model.checkpointing=auto: {str(again).lower()}, as this training began"
    write_durably(path, json.dumps({"again": again}) + "\n")
    return again, why


def forget_decision(directory: Path) -> None:
    """Remove the decision of a training that ends: its facts have it."""
    (directory / DECISION).unlink(missing_ok=True)


def recompute_layers(model: nn.Module, *, keep_draws: bool = True) -> None:
    """Have every decoder layer computed again in the backward pass, where the model is in train mode and asked for gradients.

    The library's own, without reentrant autograd: frozen layers below an adapter need no gradient of their inputs, and gradients
    are those of the plain model to the bit. A model in eval mode, as sampling and evaluation have it, computes as before.

    Args:
        model: one of transformers, or such a one with adapters on it.
        keep_draws: repeat the random numbers of dropout; False where nothing is computed.

    Raises:
        ConfigError: if the model cannot.
    """
    whole: Any = model
    stock = whole.get_base_model() if hasattr(whole, "get_base_model") else whole
    if not getattr(stock, "supports_gradient_checkpointing", False):
        raise ConfigError(
            f"model.checkpointing=true: {type(stock).__name__} cannot compute its layers again. "
            "Leave it out; a smaller trainer.token_budget makes a forward pass smaller."
        )
    # transformers 5.17 knows the old name alone; later ones warn of it and version 6 removes it. The name alone will do once the
    # oldest version in pyproject.toml has the new one
    enable = getattr(stock, "activation_checkpointing_enable", None) or stock.gradient_checkpointing_enable
    enable({"use_reentrant": False, "preserve_rng_state": keep_draws})
