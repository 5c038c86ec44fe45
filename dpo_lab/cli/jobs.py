"""The jobs of one call of the program: each builds a stage and runs it, and how each ended is told at the end."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

from dpo_lab.cli.arguments import CommandLine, key_of
from dpo_lab.cli.composed import is_one_of_many, job_words, task_overrides
from dpo_lab.cli.job_records import JobOnDisk, recorded
from dpo_lab.cli.keys import with_typed_keys
from dpo_lab.cli.remedies import tried_remedies
from dpo_lab.cli.search_watch import watched
from dpo_lab.cli.session import USAGE, Job, OutputClosed, Session, answer, complain
from dpo_lab.comparison.jobs import label_in, swept_in, words_of
from dpo_lab.watching import BehindError, WaitingError


def run_job(config: Any, line: CommandLine, session: Session) -> float | None:
    """Build a stage and run it; its failure is kept, so that the other jobs of a sweep run.

    Returns:
        The figure by which runs are compared, for a sweeper that searches; None if there is none.
    """
    end_at_once()
    many = is_one_of_many(config)
    job = Job(" ".join(task_overrides(config)))
    session.jobs.append(job)
    with recorded(config, line, job) if many else nullcontext() as record:
        try:
            session.outputs = str(config.get("outputs", session.outputs))  # a stage that writes nothing has none
            if line.rerun:
                from dpo_lab.cli.rerun import repeat

                repeat(line, config, session)
            else:
                with in_sweep(config, session) if many else nullcontext():
                    run_stage_of(config, line, job, record)
            job.code = 0
        except BehindError as reason:
            from dpo_lab.progress import say

            job.code, job.message = 0, str(reason)
            job.ended = "waiting" if isinstance(reason, WaitingError) else "pruned"
            say(f"  {reason}")
        except BrokenPipeError as error:
            raise OutputClosed from error  # nobody reads the output of the other jobs either
        except Exception as error:
            if record:
                record.tell_of(error)
            job.code, job.message = answer(error, session.outputs)
            job.message = in_words_of(config, job.message) if job.code == USAGE else job.message
            if job.message:
                complain(job.message, job.code)
            job.message = job.message or f"{type(error).__name__}: {error}"
            if many and "basic" not in config.hydra.launcher._target_.lower():
                raise  # a job in another process: only Hydra can carry the failure home
    return job.figure[1] if job.figure else None


def end_at_once() -> None:
    """Let Python end without its last collections, which go over all that torch and transformers hold: 1 to 3 s."""
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)


@contextmanager
def in_sweep(config: Any, session: Session) -> Iterator[None]:
    """Within the block, show the progress of the sweep above the job's, and let a search watch the job."""
    from dpo_lab.progress import Part, job_of

    session.progress = session.progress or Part("sweep", max(session.num_jobs, 1), live=True)
    session.progress.done = int(config.hydra.job.num)
    with job_of(session.progress if session.num_jobs > 1 else None), watched(config):
        yield


def in_words_of(config: Any, message: str) -> str:
    """Return a message in which keys stand as the command line set them, and remedies as they work there."""
    from dpo_lab.cli.build import tried, unresolved

    named = task_overrides(config)
    typed = with_typed_keys(message, unresolved(config), {key_of(override) for override in named})
    return tried_remedies(typed, named, lambda words: tried(config, words))


def run_stage_of(config: Any, line: CommandLine, job: Job, record: JobOnDisk | None = None) -> None:
    """Run the stage of a configuration; note where its run is, and the figure by which runs are compared with its name."""
    from dpo_lab.cli.build import build

    if is_one_of_many(config) and "group" in config and config.group is None:
        config.group = Path(config.hydra.sweep.dir).name
    stage = build(config)
    call = call_of(config, line) if "call" in signature(stage.run).parameters else None
    plan = getattr(stage, "plan", None) if record else None
    if record and plan:
        job.directory = str(plan(call).path)
        record.write()
    try:
        job.figure = figure_of(stage, stage.run(call) if call else stage.run())
    finally:
        if plan:  # another process may have begun the same run under another name
            job.directory = str(plan(call).path)


def figure_of(stage: Any, result: Any) -> tuple[str, float] | None:
    """Return name and value of the figure by which runs are compared, None for a stage that says nothing of one."""
    if not hasattr(stage, "figure") or not isinstance(result, dict):
        return None
    answer: tuple[str, float] | None = stage.figure(result)
    return answer


# ---------------------------------------------------------------- the call
def call_of(config: Any, line: CommandLine) -> Any:
    """Return the call that a job answers, with what of its configuration is not the stage's default."""
    from hydra.core.global_hydra import GlobalHydra

    from dpo_lab.call import Call
    from dpo_lab.cli.build import differences, resolved

    searched = GlobalHydra.instance().config_loader().get_search_path().get_path()
    asked, overrides = resolved(config), tuple(task_overrides(config))
    job = (Path(config.hydra.sweep.dir), int(config.hydra.job.num) + 1) if is_one_of_many(config) else None
    return Call(
        command=line.command(job_words(config, line) if is_one_of_many(config) else line.words),
        cwd=str(Path.cwd()),
        overrides=overrides,
        label=label_in(*job) if job else "",
        words=words_of(overrides, swept_in(*job) if job else ()),
        differences=tuple(differences(asked, default_of(line.stage, tuple(place.path for place in searched)))),
        config=asked,
    )


@cache
def default_of(stage: str, directories: tuple[str, ...]) -> dict[str, Any]:
    """Return a stage's configuration without overrides, composed once for all jobs of a sweep.

    Args:
        directories: where Hydra looks for its files.
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    from dpo_lab.cli.build import resolved

    loader = GlobalHydra.instance().config_loader()
    return resolved(loader.load_configuration(config_name=stage, overrides=[], run_mode=RunMode.RUN))
