"""The command line: `dpo-lab STAGE ...`, train.py and scripts/. Hydra composes, build.py builds, the stage runs.

Exit codes: 0 done, 1 error, 2 usage or configuration, 75 stopped by SIGTERM, 130 stopped by Ctrl-C.
"""

import hashlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, cast

from dpo_lab import __version__
from dpo_lab.cli_arguments import CommandLine, UsageError, general_help, key_of, read, stage_help, unknown_stage
from dpo_lab.cli_messages import explain, multirun_without_list, stop_message, system_message, unknown_option_of_group
from dpo_lab.paths import CONF, groups, options, stages

ERROR, USAGE = 1, 2
STOPPED = {signal.SIGINT: (130, "Ctrl-C"), signal.SIGTERM: (75, "SIGTERM")}
NOT_IN_NAME = ("force", "logger", "paths", "callbacks", "tags")  # what a sweep's directory does not depend on


class Stopped(BaseException):
    """A signal asked the program to end. No KeyboardInterrupt, which Lightning answers with an exit code of its own."""

    received: ClassVar[int | None] = None
    """The last signal: an import that it interrupts may fail with an error of its own instead."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code, self.how = STOPPED[signal.Signals(number)]


@dataclass
class Job:
    """One run of a stage, and how it ended."""

    overrides: str
    code: int | None = None
    """Exit code; None while it runs."""
    message: str = ""


@dataclass
class Session:
    """What one call of the program has done so far."""

    outputs: str
    jobs: list[Job] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `dpo-lab STAGE ...`; return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(general_help())
        return 0 if words else USAGE
    if words[0] == "--version":
        sys.stdout.write(f"dpo-lab {__version__}\n")
        return 0
    return run_stage(words[0], words[1:]) if words[0] in stages() else complain(unknown_stage(words[0]), USAGE)


def train(arguments: Sequence[str] | None = None) -> int:
    """Run the stage `train`; return the exit code."""
    return run_stage("train", arguments)


def run_stage(stage: str, arguments: Sequence[str] | None = None) -> int:
    """Run a stage with what stands on the command line; return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(words):  # answered before Hydra is imported
        sys.stdout.write(stage_help(stage))
        return 0
    if "--version" in words:
        return main(["--version"])
    session = Session("outputs")
    Stopped.received = None
    try:
        line = read(stage, words)
        session.outputs = line.value("paths.outputs", "outputs")
        with signals_as_exceptions():
            return compose_and_run(line, session)
    except UsageError as error:
        return complain(str(error), USAGE)
    except BrokenPipeError:  # `--cfg job | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR
    except (Stopped, KeyboardInterrupt) as error:
        stopped = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        sys.stderr.write(f"\n{stop_message(stopped.how, session.outputs)}\n")
        return stopped.code


def complain(message: str, code: int) -> int:
    """Write a message to stderr and return the exit code."""
    sys.stderr.write(f"error: {message}\n")
    return code


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Raise Stopped on Ctrl-C and SIGTERM while the block runs (in the main thread, which alone may ask for it)."""

    def stop(number: int, frame: FrameType | None) -> None:
        Stopped.received = number
        raise Stopped(number)

    try:
        before = {number: signal.signal(number, stop) for number in STOPPED}
    except ValueError:
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---------------------------------------------------------------- Hydra
def compose_and_run(line: CommandLine, session: Session) -> int:
    """Let Hydra compose the configuration and run the job or jobs; return the exit code."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing and leaving
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf import DictConfig, open_dict
    from omegaconf.errors import OmegaConfBaseException

    def task(config: DictConfig) -> None:
        with open_dict(config):
            config["hydra"] = HydraConfig.instance().cfg.hydra  # type: ignore[union-attr]
        run_job(config, session)

    before = sys.argv
    try:
        directory = sweep_directory(line, swept_keys(line), session.outputs)
        own = any(key_of(override) == "hydra.sweep.dir" for override in line.overrides)
        sys.argv = [line.stage, *line.options, *line.overrides, *([] if own else [f"hydra.sweep.dir='{directory}'"])]
        with no_trace_of_a_sweep_without_jobs(directory, session):
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=line.stage)(task)()
    except (UsageError, BrokenPipeError):
        raise
    except (HydraException, OmegaConfBaseException) as error:
        return complain(explain(error, line.config_dir), USAGE)
    except Exception as error:  # outside of a job: Hydra's own directory cannot be written, a launcher's trouble
        code, message = answer(error, session.outputs)
        return complain(message, code) if message else code
    finally:
        sys.argv = before
    return ending(session)


def swept_keys(line: CommandLine) -> list[str]:
    """Return the keys that have a list to sweep over.

    Raises:
        UsageError: if -m is given without a list, or with an option that a group does not have.
    """
    if not line.is_multirun:
        return ["sweep"]
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(line.overrides))
    swept = [override for override in parsed if override.is_sweep_override()]
    kept = any(key_of(override).startswith(("sweep", "hydra")) for override in line.overrides)
    if not swept and not kept:
        raise UsageError(multirun_without_list(line.overrides))
    for override in swept:
        group = override.key_or_group
        for option in override.sweep_string_iterator() if group in groups() and override.is_discrete_sweep() else ():
            if not option.startswith("[") and option not in options(group, line.config_dir):
                raise UsageError(unknown_option_of_group(f"{group}/{option}", "", line.config_dir))
    return [override.key_or_group for override in swept] or ["sweep"]


def sweep_directory(line: CommandLine, keys: Sequence[str], outputs: str) -> str:
    """Return the directory of a sweep, named by its content: the same command finds the same one.

    It cannot be a resolver in hydra_defaults.yaml, which Hydra would evaluate again in each job.
    """
    content = sorted(text for text in line.overrides if key_of(text).split(".")[0] not in NOT_IN_NAME)
    digest = hashlib.sha256("\n".join([line.stage, *content]).encode()).hexdigest()[:8]
    readable = "-".join(key.replace("/", ".") for key in keys)[:40]
    return f"{outputs}/sweep/{line.stage}-{readable}-{digest}"


@contextmanager
def no_trace_of_a_sweep_without_jobs(directory: str, session: Session) -> Iterator[None]:
    """Remove what Hydra made for a sweep, which it does before it looks at the jobs, if none of them started."""
    place = Path(directory)
    new = [path for path in (place, place.parent, place.parent.parent) if not path.exists()]
    try:
        yield
    except Exception:
        if place in new and not session.jobs:
            with suppress(OSError):  # absent, or holds something else
                (place / "multirun.yaml").unlink(missing_ok=True)
                for path in new:
                    path.rmdir()
        raise


# ---------------------------------------------------------------- jobs
def run_job(config: Any, session: Session) -> None:
    """Build a stage and run it; its failure is kept, so that the other jobs of a sweep go on."""
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    many = config.hydra.mode == RunMode.MULTIRUN
    job = Job(" ".join(cast(list[str], OmegaConf.to_container(config.hydra.overrides.task, resolve=False))))
    session.jobs.append(job)
    if many:
        sys.stdout.write(f"\njob {len(session.jobs)}: {job.overrides}\n")
        sys.stdout.flush()
    try:
        from dpo_lab.build import build

        session.outputs = str(config.outputs)
        build(config).run()
        job.code = 0
    except Exception as error:
        job.code, job.message = answer(error, session.outputs)
        if job.message:
            complain(job.message, job.code)
        job.message = job.message or f"{type(error).__name__}: {error}"
        if many and "basic" not in config.hydra.launcher._target_.lower():
            raise  # a job in another process: only Hydra can carry the failure home


def answer(error: Exception, outputs: str) -> tuple[int, str]:
    """Return exit code and message of a failure; the message is empty if only a traceback, printed here, says it."""
    if Stopped.received is not None:
        raise Stopped(Stopped.received)
    from dpo_lab.components import ConfigError, RunError
    from dpo_lab.data.problems import DataError

    if isinstance(error, ConfigError):
        return USAGE, str(error)
    if isinstance(error, DataError | RunError):
        return ERROR, str(error)
    if message := system_message(error, outputs):
        return ERROR, message
    traceback.print_exception(error)
    return ERROR, ""


def ending(session: Session) -> int:
    """Return the exit code; after several jobs, show how each ended."""
    failed = [job for job in session.jobs if job.code != 0]
    if len(session.jobs) < 2:
        return failed[0].code or ERROR if failed else 0
    width = max(len(job.overrides) for job in session.jobs)
    sys.stdout.write(f"\n{len(session.jobs)} jobs, {len(session.jobs) - len(failed)} finished, {len(failed)} failed\n")
    for number, job in enumerate(session.jobs, start=1):
        result = "finished" if job.code == 0 else f"failed: {job.message.splitlines()[0]}"
        sys.stdout.write(f"  {number:3}  {job.overrides:{width}}  {result}\n")
    sys.stdout.flush()
    return complain(f"{len(failed)} of {len(session.jobs)} jobs failed; the table above says why.", ERROR) if failed else 0


if __name__ == "__main__":
    sys.exit(main())
