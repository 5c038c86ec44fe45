"""What does not go together: each rule names, as its parameters, the fields of a stage that it looks at."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from dpo_lab.components import Component, ConfigError, refused_parts
from dpo_lab.rules import callbacks, data, devices, figures, models, precision, references

Rule = Callable[..., str | None]
"""Returns what is wrong and what to use instead, or None. It applies to every stage that has fields of these names."""

RULES: tuple[Rule, ...] = (
    *data.RULES,
    *models.RULES,
    *references.RULES,
    *precision.RULES,
    *devices.RULES,
    *callbacks.RULES,
    *figures.RULES,
)
SLOW_RULES: tuple[Rule, ...] = data.SLOW_RULES
"""Those that read data; applied once the model is known to exist."""


def refuse_illegal(stage: Component) -> None:
    """Raise ConfigError with everything that is wrong with the parts of a stage, alone and together; load nothing."""
    refuse([*refused_parts(stage), *broken(stage, RULES)])


def refuse_slowly(stage: Component) -> None:
    """Raise ConfigError for what takes seconds to find out."""
    refuse([*refused_parts(stage, slowly=True), *broken(stage, SLOW_RULES)])


def broken(stage: Component, rules: Sequence[Rule]) -> list[str]:
    """Return the messages of the rules that a stage breaks; a rule about fields that the stage lacks does not apply."""
    applied = [(rule, fields) for rule in rules if (fields := fields_of(stage, rule)) is not None]
    return [message for rule, fields in applied if (message := rule(**fields))]


def fields_of(stage: Component, rule: Callable[..., Any]) -> dict[str, Any] | None:
    """Return the fields of a stage that a rule names as its parameters, None if the stage lacks one or has none there."""
    found = {name: getattr(stage, name, None) for name in inspect.signature(rule).parameters}
    return None if any(value is None for value in found.values()) else found


def refuse(messages: Sequence[str]) -> None:
    """Raise ConfigError with the messages, if there are any."""
    if messages:
        raise ConfigError(" Also: ".join(dict.fromkeys(messages)))
