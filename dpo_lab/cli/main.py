"""The command line: `dpo-lab STAGE ...`, train.py and scripts/. Hydra composes, build.py builds, the stage runs.

Exit codes: 0 done, 1 error, 2 usage or configuration, 75 stopped by SIGTERM or SIGHUP, 130 stopped by Ctrl-C.
"""

import hashlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from dpo_lab import __version__
from dpo_lab.cli.arguments import (
    NEUTRAL,
    TOOLS,
    BareWordError,
    CommandLine,
    UnknownOptionError,
    UsageError,
    escaped,
    key_of,
    read,
)
from dpo_lab.cli.bare import unknown_stage, unnamed
from dpo_lab.cli.choices import refuse_choices
from dpo_lab.cli.conf import stages
from dpo_lab.cli.help import general_help, stage_help
from dpo_lab.cli.jobs import run_job
from dpo_lab.cli.launchers import importable_in_workers, limits
from dpo_lab.cli.messages import cannot_compose, closed_pipe, explain, is_of_hydra, multirun_without_list, stop_message
from dpo_lab.cli.run_mode import mode_without_composing
from dpo_lab.cli.session import ERROR, USAGE, OutputClosed, Session, Stopped, answer, complain, ending, show_what_ended
from dpo_lab.cli.tools import run_tool
from dpo_lab.cli.unknown import unknown_option
from dpo_lab.comparison.jobs import PLAN
from dpo_lab.conf_files import CONF
from dpo_lab.own_files import make_own
from dpo_lab.signals import let_go_of_terminal, to_answer

NOT_IN_NAME = tuple(name for name in NEUTRAL if name != "optimized_metric")  # of a search, the figure decides what is kept

QUIETLY, QUIET = "--quiet", "DPO_LAB_QUIET"
MAY_GROW = ("hydra.sweeper.trials", "hydra.sweeper.max_batch_size")  # a search may continue with more points


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `dpo-lab STAGE ...`; return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(general_help())
        return 0 if words else USAGE
    if words[0] == "--version":
        sys.stdout.write(f"dpo-lab {__version__}\n")
        return 0
    if words[0] in TOOLS:
        return run_tool(words[0], words[1:])
    return run_stage(words[0], words[1:]) if words[0] in stages() else complain(unknown_stage(words), USAGE)


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
        line = read(stage, [word for word in words if word != QUIETLY])
        session.outputs = line.value("paths.outputs", "outputs")
        with signals_as_exceptions(), quietly(QUIETLY in words):
            return compose_and_run(line, session)
    except BareWordError as error:
        return complain(unnamed(stage, error.argument, error.rest, error.before), USAGE)
    except UnknownOptionError as error:
        return complain(unknown_option(stage, error.argument, error.rest), USAGE)
    except UsageError as error:
        return complain(str(error), USAGE)
    except (BrokenPipeError, OutputClosed):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python fails once more as it ends
        return complain(closed_pipe(session.outputs if session.jobs else ""), ERROR)
    except (Stopped, KeyboardInterrupt) as error:
        stopped = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        show_what_ended(session)
        sys.stderr.write(f"\n{stop_message(stopped.how, session.outputs)}\n")
        return stopped.code


@contextmanager
def quietly(asked: bool) -> Iterator[None]:
    """Show no progress within the block if that was asked for, in processes of a launcher neither."""
    if asked:
        os.environ[QUIET] = "1"
    try:
        yield
    finally:
        if asked:
            os.environ.pop(QUIET, None)


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Raise Stopped on Ctrl-C, SIGTERM and SIGHUP while the block runs (in the main thread, which alone may ask for it)."""

    def stop(number: int, frame: FrameType | None) -> None:
        let_go_of_terminal(number)
        Stopped.received = number
        raise Stopped(number)

    try:
        before = {number: signal.signal(number, stop) for number in to_answer()}
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

    from dpo_lab.cli.sweeps import CheckJobs, SweepRefused

    def task(config: DictConfig) -> float | None:
        with open_dict(config):
            config["hydra"] = HydraConfig.instance().cfg.hydra  # type: ignore[union-attr]
        return run_job(config, line, session)

    before, CheckJobs.asked = sys.argv, (line, session)
    try:
        directory = sweep_directory(line, swept_keys(line), session.outputs)
        make_own(Path(directory) / "multirun.yaml")  # Hydra writes into it
        own = any(key_of(override) == "hydra.sweep.dir" for override in line.overrides)
        place = [] if own else [f"hydra.sweep.dir={escaped(directory)}"]
        checks = f"+hydra.callbacks.check_jobs._target_={CheckJobs.__module__}.{CheckJobs.__qualname__}"
        sys.argv = [line.stage, *line.options, *line.composed, *place, *limits(line.overrides), checks]
        if any(key_of(override) == "hydra/launcher" for override in line.overrides):
            importable_in_workers(Path(__file__).resolve().parents[2])
        with mode_without_composing(line.composed, line.config_dir), no_trace_of_a_sweep_without_jobs(directory, session):
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=line.stage)(task)()
    except (UsageError, BrokenPipeError):
        raise
    except SweepRefused as error:
        return complain(str(error), USAGE)
    except (HydraException, OmegaConfBaseException) as error:
        return complain(explain(error, line), USAGE)
    except Exception as error:  # outside of a job: Hydra's own directory cannot be written, a launcher's trouble
        if is_of_hydra(error) and not session.began:
            return complain(cannot_compose(error, line.overrides), USAGE)
        code, message = answer(error, session.outputs)
        if message:
            complain(message, code)
        return max(code, ending(session)) if session.sweep and Path(session.sweep).is_dir() else code
    finally:
        sys.argv, CheckJobs.asked = before, None
    return ending(session)


def swept_keys(line: CommandLine) -> list[str]:
    """Return the keys that have a list to sweep over.

    Raises:
        UsageError: if -m is given without a list, or a group is given an unknown option.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(line.composed))
    refuse_choices(line.stage, parsed, line.config_dir, is_multirun=line.is_multirun)
    if not line.is_multirun:
        return ["sweep"]
    swept = [override for override in parsed if override.is_sweep_override()]
    kept = any(key_of(override).startswith(("sweep", "hydra")) for override in line.overrides)
    if not swept and not kept:
        raise UsageError(multirun_without_list(line))
    return [override.key_or_group for override in swept] or ["sweep"]


def sweep_directory(line: CommandLine, keys: Sequence[str], outputs: str) -> str:
    """Return the directory of a sweep, named by its content: the same command finds the same one.

    It cannot be a resolver in hydra_defaults.yaml, which Hydra would evaluate again in each job.
    """
    content = sorted(
        text for text in line.overrides if key_of(text).split(".")[0] not in NOT_IN_NAME and key_of(text) not in MAY_GROW
    )
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
        if place in new and not session.began:
            with suppress(OSError):  # absent, or holds something else
                for name in ("multirun.yaml", PLAN):
                    (place / name).unlink(missing_ok=True)
                for path in new:
                    path.rmdir()
        raise


if __name__ == "__main__":
    sys.exit(main())
