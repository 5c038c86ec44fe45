"""Refuses what the command line names and the stage takes, if it makes no difference there."""

from collections.abc import Mapping, Sequence
from typing import Any

from dpo_lab.cli.keys import origin
from dpo_lab.components import Component, ConfigError
from dpo_lab.plain_data import leaves


def refuse_idle(stage: Component, of_stage: Mapping[str, Any], raw: Mapping[str, Any], named: Sequence[str]) -> None:
    """Raise ConfigError for an override all of whose values make no difference.

    Args:
        of_stage: the stage's resolved configuration.
        raw: the whole one, which tells where a value is set.
        named: the overrides of the command line.
    """
    from dpo_lab.rules.idle import idle_settings  # the stage is made, and has loaded what that needs

    idle = idle_settings(stage)
    set_at = [(key, origin(raw, key)) for key, _ in leaves(of_stage)]
    for override in named:
        given = override.lstrip("+~").split("=")[0].split("@")[0]
        reasons = [reason(key, idle) for key, source in set_at if f"{source}.".startswith(f"{given}.")]
        if reasons and all(reasons):
            raise ConfigError(f"`{override}` has no effect: {reasons[0]}. Leave it out.")


def reason(key: str, idle: Mapping[str, str]) -> str:
    """Return why a value makes no difference, an empty text if it may make one.

    >>> reason("data.sampler.top_p", {"data.sampler": "nothing is sampled"}), reason("data.path", {})
    ('nothing is sampled', '')
    """
    return next((why for name, why in idle.items() if f"{key}.".startswith(f"{name}.")), "")
