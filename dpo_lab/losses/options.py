"""The losses of conf/loss with the default numbers of their classes, whatever numbers a run trains with."""

from dataclasses import MISSING, fields
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from dpo_lab.components import ConfigError
from dpo_lab.conf_files import CONF
from dpo_lab.losses.base import PreferenceLoss


@cache
def loss_options() -> dict[str, PreferenceLoss]:
    """Return the loss of every file of conf/loss by its name.

    >>> loss_options()["cdpo"]
    DPOLoss(beta=0.1, label_smoothing=0.1, reduction='sum')
    """
    return {path.stem: loss_of(path) for path in sorted((CONF / "loss").glob("*.yaml"))}


def loss_of(path: Path) -> PreferenceLoss:
    """Return the loss that a yaml describes; what the file takes from elsewhere (`${recipe.beta}`) is the default of its class.

    Raises:
        ConfigError: if the file describes no loss.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        loss = built(content["loss"] if "defaults" in content else content)  # one that also chooses its reference names both
    except Exception as error:  # whatever is wrong with a file that somebody is writing
        raise ConfigError(
            f"{path} cannot be built ({error}), and every run compares the losses of conf/loss. Correct it."
        ) from error
    if not isinstance(loss, PreferenceLoss):
        raise ConfigError(f"{path} describes a {type(loss).__name__}, not a loss. Move it out of conf/loss.")
    return loss


def built(node: Any) -> Any:
    """Return what a node of a yaml describes, parts below it first; values that it interpolates are left out."""
    if not isinstance(node, dict):
        return node
    values = {key: built(value) for key, value in node.items() if key != "_target_" and not str(value).startswith("${")}
    if "_target_" not in node:
        return values
    module, _, name = node["_target_"].rpartition(".")
    return getattr(import_module(module), name)(**values)


def with_defaults(loss: PreferenceLoss) -> PreferenceLoss:
    """Return a loss with the defaults of its class; fields without default keep their values."""
    kept = [field.name for field in fields(loss) if field.default is MISSING and field.default_factory is MISSING]  # type: ignore[arg-type]
    return type(loss)(**{name: getattr(loss, name) for name in kept})
