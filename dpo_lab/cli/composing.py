"""A stage's configuration with other overrides, as Hydra composes it; None where it cannot."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

from dpo_lab.conf_files import CONF


class Composed(NamedTuple):
    """A configuration as it is before ${...} is resolved."""

    raw: Mapping[str, Any]
    choices: Mapping[str, Any]
    """The option of each group."""
    config: Any
    """The same as Hydra made it."""


@lru_cache(maxsize=64)
def composed(stage: str, overrides: tuple[str, ...], config_dir: Path | None) -> Composed | None:
    """Return the raw configuration of a stage, of a swept key its first value; None if it cannot be composed.

    While Hydra runs, it composes with the directories that it was called with.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    more = [f"hydra.searchpath=[{config_dir.absolute()}]"] if config_dir else []
    try:
        values = first_values(overrides)
        if (running := GlobalHydra.instance()).is_initialized():
            config = running.config_loader().load_configuration(config_name=stage, overrides=values, run_mode=RunMode.RUN)
        else:
            with initialize_config_dir(str(CONF), version_base="1.3"):
                config = compose(stage, [*more, *values], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, ValueError):
        return None
    raw = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    del raw["hydra"]
    return Composed(raw, dict(config.hydra.runtime.choices), config)


def first_values(overrides: Sequence[str]) -> list[str]:
    """Return overrides of which each names one value: the first of those that a sweep has."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [
        f"{each.key_or_group}={next(each.sweep_string_iterator())}" if each.is_discrete_sweep() else text
        for each, text in zip(parsed, overrides, strict=True)
    ]
