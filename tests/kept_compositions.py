"""What Hydra makes of conf/ before values are set, kept for all tests: the same choices of groups are composed once."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, replace
from typing import Any

import pytest
from hydra._internal import config_loader_impl, defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository

from dpo_lab.conf_files import CONF

UNCHANGING = (f"file://{CONF}", "pkg://", "structured://")


def sources_of(repository: Any) -> tuple[str, ...] | None:
    """Return where a repository reads, None if a directory that a test writes is among it."""
    sources = tuple(source.full_path() for source in repository.get_sources())
    return sources if all(source.startswith(UNCHANGING) for source in sources) else None


def sets_a_value(repository: Any, override: Any) -> bool:
    """Whether an override sets a value; the others choose options of groups."""
    return isinstance(override.value(), dict) or not repository.group_exists(override.key_or_group)


def copied(kept: dict[Any, bytes], key: Any, make: Callable[[], Any]) -> Any:
    """Return a copy of what was made for a key; reading a pickle takes a fourth of a deep copy."""
    if key not in kept:
        kept[key] = pickle.dumps(make())
    return pickle.loads(kept[key])


@contextmanager
def compositions_kept() -> Iterator[None]:
    """Let Hydra read and merge the files of conf/ once for the same choices: 0.2 of the 0.22 CPU-s of a composition.

    What is kept is copied, since Hydra sets the values of the command line in it. Refusals are not kept, nor is what has
    another directory in its search path. A third of a composition of other choices was a map that Hydra makes for each file
    and reads where a default is interpolated: it is made for those files alone.
    """
    read, listed = ConfigRepository.load_config, defaults_list.create_defaults_list
    merged, mapped = ConfigLoaderImpl._compose_config_from_defaults_list, defaults_list._create_interpolation_map
    files, lists, configs = dict[Any, bytes](), dict[Any, Any](), dict[Any, bytes]()

    def load_config(repository: ConfigRepository, config_path: str) -> Any:
        if (sources := sources_of(repository)) is None:
            return read(repository, config_path)
        return copied(files, (sources, config_path), lambda: read(repository, config_path))

    def create_defaults_list(repo: Any, config_name: Any, overrides_list: Any, **settings: Any) -> Any:
        if (sources := sources_of(repo)) is None:
            return listed(repo, config_name, overrides_list, **settings)
        given = [override for override in overrides_list if not override.is_sweep_override()]
        values = [override for override in given if sets_a_value(repo, override)]
        choices = tuple(override.input_line for override in given if override not in values)
        key = (sources, config_name, choices, tuple(settings.items()))
        if key not in lists:
            lists[key] = listed(repo, config_name, overrides_list, **settings)
        return replace(lists[key], config_overrides=values)

    def compose_config(loader: Any, defaults: Any, repo: Any) -> Any:
        if (sources := sources_of(repo)) is None:
            return merged(loader, defaults, repo)
        return copied(configs, (sources, tuple(map(astuple, defaults))), lambda: merged(loader, defaults, repo))

    def create_interpolation_map(overrides: Any, defaults: list[Any], self_added: bool) -> Any:
        interpolated = any(default.is_interpolation() for default in defaults if not default.is_self())
        return mapped(overrides, defaults, self_added) if interpolated else None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigRepository, "load_config", load_config)
        patch.setattr(config_loader_impl, "create_defaults_list", create_defaults_list)
        patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", compose_config)
        patch.setattr(defaults_list, "_create_interpolation_map", create_interpolation_map)
        yield
