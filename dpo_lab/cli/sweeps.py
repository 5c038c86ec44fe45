"""All jobs of a sweep are composed, built and checked before the first one starts: a mistake in the last costs no training."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from hydra.errors import HydraException
from hydra.experimental.callback import Callback

from dpo_lab.cli.arguments import CommandLine, key_of
from dpo_lab.cli.plugins import instead_of_plugin
from dpo_lab.cli.search_watch import SEARCH
from dpo_lab.cli.session import Session
from dpo_lab.cli.sweep_disk import DiskError, SweepDisk
from dpo_lab.comparison.jobs import SweepPlan

COMMON = ("data", "evaluation", "iteration", "reference", "loss")  # what the figures of a run depend on
LISTED = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"  # its jobs are known before the first one runs


TRIALS = 20
"""Points of a search that says no number."""
SAMPLERS = ("tpe", "random", "grid")
LEAST = {"trials": 1, "max_batch_size": 1, "prune_from": 1, "prune_factor": 2}
"""Settings of a search that are numbers, with the lowest value."""


class SweepRefused(BaseException):
    """Jobs of a sweep cannot run; the message is all that the user sees. No Exception, which Hydra's callbacks only warn of."""


class CheckJobs(Callback):
    """Hydra calls it when a sweep starts, in the process that was called, before anything is launched."""

    asked: ClassVar[tuple[CommandLine, Session] | None] = None
    """The call that runs the sweep; Hydra makes the callback, so that it cannot be handed over."""

    def on_multirun_start(self, config: Any, **others: Any) -> None:
        """Raise SweepRefused if a job cannot be composed, built or checked; then write what the sweep was asked for.

        A search chooses its jobs later: the corners of its space are checked. Sweepers of others are not known.
        """
        of_search: dict[str, Any] = {}
        disk, total = SweepDisk(), 0
        jobs: list[list[str]] = []
        if config.hydra.sweeper._target_ == LISTED:
            try:
                jobs = jobs_of(config)
            except HydraException:
                return  # the sweeper refuses it itself, and says more
            self.refuse(config, jobs, disk)
            total = len(jobs)
        elif config.hydra.sweeper._target_ == SEARCH:
            of_search = self.refuse_search(config, disk)
            total = points_of(config) if of_search else 0
        tell_of_disk(disk, total if of_search else None)
        if self.asked:
            line, session = self.asked
            session.num_jobs = total
            plan = SweepPlan(
                stage=line.stage,
                command=line.command(line.words),
                metric=line.value("optimized_metric", ""),
                jobs=tuple(tuple(task_only(job)) for job in jobs),
            )
            plan = replace(plan, **of_search)
            with suppress(OSError):  # Hydra cannot write there either, and says so
                plan.write(Path(config.hydra.sweep.dir))
                session.sweep = str(config.hydra.sweep.dir)

    def refuse_search(self, config: Any, disk: SweepDisk) -> dict[str, Any]:
        """Return what a search looks at; raise SweepRefused if it cannot work, or some corner of its space cannot run."""
        from dpo_lab.cli.search_space import SpaceError, corners, points
        from dpo_lab.components import ConfigError

        if problem_of := instead_of_plugin("hydra/sweeper", "search"):
            raise SweepRefused(f"hydra/sweeper=search: {problem_of}.")
        try:
            space, fixed = space_in(config)
            refuse_settings(config.hydra.sweeper)
            if config.hydra.sweeper.sampler == "grid":
                points(space)
            jobs = [[*(f"{key}={text}" for key, text in point.items()), *fixed] for point in corners(space)]
            read: dict[str, Any] = {}
            looked_at: Any = None
            for job in jobs:
                if message := problem(config, job, read, disk):
                    raise SweepRefused(f"a point of the search ({' '.join(job)}) cannot run: {message} No job was started.")
                looked_at = looked_at or looked_at_by(config, job)
        except (SpaceError, ConfigError) as error:
            raise SweepRefused(str(error)) from error
        except HydraException:
            return {}  # Hydra composes every job itself before it launches one, and says more
        return {
            "keys": tuple(map(key_of, space)),
            "metric": looked_at.key,
            "better": looked_at.better,
            "prune_by": looked_at.prune_by,
        }

    def refuse(self, config: Any, jobs: Sequence[Sequence[str]], disk: SweepDisk) -> None:
        """Raise SweepRefused if a job cannot be composed, built or checked."""
        read: dict[str, Any] = {}
        refused = {number: message for number, job in enumerate(jobs, start=1) if (message := problem(config, job, read, disk))}
        if refused:
            number = min(refused)
            others_too = [str(other) for other in refused if other != number]
            more = f" Nor can {'job' if len(others_too) == 1 else 'jobs'} {', '.join(others_too)}." if others_too else ""
            which = f"job {number} of {len(jobs)} ({' '.join(jobs[number - 1])})"
            raise SweepRefused(f"{which} cannot run: {refused[number]}{more} No job was started.")


def points_of(config: Any) -> int:
    """Return how many points a search has."""
    from dpo_lab.cli.search_space import points

    asked = config.hydra.sweeper.trials
    if config.hydra.sweeper.sampler != "grid":
        return int(asked or TRIALS)
    whole = len(points(space_in(config)[0]))
    return min(asked or whole, whole)


def tell_of_disk(disk: SweepDisk, points: int | None) -> None:
    """Say how much the jobs write at least, or so many points of a search; raise SweepRefused if that does not fit."""
    try:
        said = disk.told(points)
    except DiskError as error:
        raise SweepRefused(f"{error} No job was started.") from error
    if said:
        sys.stdout.write(f"{said}\n")


def task_only(job: Sequence[str]) -> list[str]:
    """Return the overrides of a job without those of Hydra's own settings, as the job itself records them."""
    return [override for override in job if not override.lstrip("+~").startswith(("hydra.", "hydra/"))]


def jobs_of(config: Any) -> list[list[str]]:
    """Return the overrides of each job of a sweep, kept ones (`hydra.sweeper.params`) included, in order."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    return [list(job) for batch in BasicSweeper.split_arguments(parsed_overrides(config), None) for job in batch]


def space_in(config: Any) -> tuple[Any, list[str]]:
    """Return what a search leaves open, kept keys included, and the overrides that all its jobs have."""
    from dpo_lab.cli.search_space import space_of

    return space_of(parsed_overrides(config))


def parsed_overrides(config: Any) -> list[Any]:
    """Return the overrides of a sweep, kept ones (`hydra.sweeper.params`) first."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    kept = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    return list(parser.parse_overrides([*kept, *config.hydra.overrides.task]))


def refuse_settings(sweeper: Any) -> None:
    """Raise SpaceError for a setting of a search that is out of range."""
    from dpo_lab.cli.search_space import SpaceError

    if sweeper.sampler not in SAMPLERS:
        raise SpaceError(f"hydra.sweeper.sampler={sweeper.sampler}: there is no such sampler. Valid: {', '.join(SAMPLERS)}.")
    for key, least in LEAST.items():
        value = sweeper[key]
        if value is not None and value < least:
            raise SpaceError(f"hydra.sweeper.{key}={value}: it is at least {least}.")


def looked_at_by(config: Any, job: Sequence[str]) -> Any:
    """Return by which figure a search compares the runs of its jobs; ConfigError if by none."""
    from hydra.core.global_hydra import GlobalHydra

    from dpo_lab.cli.build import build
    from dpo_lab.components import ConfigError
    from dpo_lab.rules.searches import searched

    stage: Any = build(GlobalHydra.instance().config_loader().load_sweep_config(config, list(job)))
    if not hasattr(stage, "optimized_metric"):
        raise ConfigError("a search compares runs of train by a figure, and this stage has none. Use hydra/sweeper=basic.")
    parts = {name: getattr(stage, name) for name in COMMON}
    return searched(stage.optimized_metric, config.hydra.sweeper.prune_by, **parts)


def problem(config: Any, overrides: Sequence[str], read: dict[str, Any], disk: SweepDisk) -> str:
    """Return why a job of a sweep cannot run, empty if it can as far as one can tell without loading a model.

    Args:
        read: data that was read for other jobs, and what is wrong with it: each is read once for a sweep.
        disk: gets what the job writes.
    """
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf.errors import OmegaConfBaseException

    from dpo_lab.cli.build import build
    from dpo_lab.cli.jobs import in_words_of
    from dpo_lab.components import ConfigError, RunError
    from dpo_lab.data.problems import DataError
    from dpo_lab.rules.check import refuse_illegal

    composed = None
    try:
        composed = GlobalHydra.instance().config_loader().load_sweep_config(config, list(overrides))
        stage: Any = build(composed)
        refuse_illegal(stage)
        data = getattr(stage, "data", None)
        for part in (data, getattr(data, "prompts", None), getattr(stage, "candidates", None), getattr(stage, "prompts", None)):
            if check_file := getattr(part, "check_file", None):
                check_file()
        if check_data := getattr(stage, "check_data", None):
            check_data(read)
        disk.add(stage)
    except (ConfigError, DataError, RunError) as error:
        return in_words_of(composed, str(error))
    except (HydraException, OmegaConfBaseException):
        return ""  # Hydra composes every job itself before it launches one, and says more
    return ""
