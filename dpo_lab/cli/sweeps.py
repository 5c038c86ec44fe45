"""All jobs of a sweep are composed, built and checked before the first one starts: a mistake in the last costs no training."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from hydra.errors import HydraException
from hydra.experimental.callback import Callback

from dpo_lab.cli.arguments import CommandLine
from dpo_lab.cli.session import Session
from dpo_lab.comparison.jobs import SweepPlan

LISTED = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"  # its jobs are known before the first one runs


class SweepRefused(BaseException):
    """Jobs of a sweep cannot run; the message is all that the user sees. No Exception, which Hydra's callbacks only warn of."""


class CheckJobs(Callback):
    """Hydra calls it when a sweep starts, in the process that was called, before anything is launched."""

    asked: ClassVar[tuple[CommandLine, Session] | None] = None
    """The call that runs the sweep; Hydra makes the callback, so that it cannot be handed over."""

    def on_multirun_start(self, config: Any, **others: Any) -> None:
        """Raise SweepRefused if a job cannot be composed, built or checked; then write what the sweep was asked for.

        Sweepers that search choose their jobs later.
        """
        jobs: list[list[str]] = []
        if config.hydra.sweeper._target_ == LISTED:
            try:
                jobs = jobs_of(config)
            except HydraException:
                return  # the sweeper refuses it itself, and says more
            self.refuse(config, jobs)
        if self.asked:
            line, session = self.asked
            plan = SweepPlan(
                stage=line.stage,
                command=line.command(line.words),
                metric=line.value("optimized_metric", ""),
                jobs=tuple(tuple(task_only(job)) for job in jobs),
            )
            with suppress(OSError):  # Hydra cannot write there either, and says so
                plan.write(Path(config.hydra.sweep.dir))
                session.sweep = str(config.hydra.sweep.dir)

    def refuse(self, config: Any, jobs: Sequence[Sequence[str]]) -> None:
        """Raise SweepRefused if a job cannot be composed, built or checked."""
        read: dict[str, Any] = {}
        refused = {number: message for number, job in enumerate(jobs, start=1) if (message := problem(config, job, read))}
        if refused:
            number = min(refused)
            others_too = [str(other) for other in refused if other != number]
            more = f" Nor can {'job' if len(others_too) == 1 else 'jobs'} {', '.join(others_too)}." if others_too else ""
            which = f"job {number} of {len(jobs)} ({' '.join(jobs[number - 1])})"
            raise SweepRefused(f"{which} cannot run: {refused[number]}{more} No job was started.")


def task_only(job: Sequence[str]) -> list[str]:
    """Return the overrides of a job without those of Hydra's own settings, as the job itself records them."""
    return [override for override in job if not override.lstrip("+~").startswith(("hydra.", "hydra/"))]


def jobs_of(config: Any) -> list[list[str]]:
    """Return the overrides of each job of a sweep, kept ones (`hydra.sweeper.params`) included, in order."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    kept = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    parsed = parser.parse_overrides([*kept, *config.hydra.overrides.task])
    return [list(job) for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]


def problem(config: Any, overrides: Sequence[str], read: dict[str, Any]) -> str:
    """Return why a job of a sweep cannot run, empty if it can as far as one can tell without loading a model.

    Args:
        read: data that was read for other jobs, and what is wrong with it: each is read once for a sweep.
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
    except (ConfigError, DataError, RunError) as error:
        return in_words_of(composed, str(error))
    except (HydraException, OmegaConfBaseException):
        return ""  # Hydra composes every job itself before it launches one, and says more
    return ""
