"""What a composed configuration says of its job: whether it is one of several, its overrides, the words that do it alone."""

from typing import Any, cast

from dpo_lab.cli.arguments import CommandLine, key_of


def job_words(config: Any, line: CommandLine) -> list[str]:
    """Return what to write behind the program to do a job of a multirun alone."""
    options = [option for option in line.options if option not in ("-m", "--multirun")]
    task = task_overrides(config)
    kept = any(key_of(override) == "sweep" for override in task) or not line.is_multirun
    return [*options, *task, *(["hydra.mode=RUN"] if kept else [])]  # a kept sweep runs all of its jobs unless told so


def is_one_of_many(config: Any) -> bool:
    """Return whether a composed configuration is that of a job of a multirun."""
    from hydra.types import RunMode

    return bool(config.hydra.mode == RunMode.MULTIRUN)


def task_overrides(config: Any) -> list[str]:
    """Return a job's overrides, without those of Hydra's own settings."""
    from omegaconf import OmegaConf

    return cast(list[str], OmegaConf.to_container(config.hydra.overrides.task, resolve=False))
