"""The study of a search on disk: which points were tried, what became of them, and what ending runs early has saved."""

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock, Timeout

from dpo_lab.cli.search_rungs import Rungs, behind
from dpo_lab.cli.search_space import SpaceError
from dpo_lab.comparison.jobs import JOBS, JobRecord, jobs_in, plan_in
from dpo_lab.comparison.search import SEARCH, SearchState
from dpo_lab.durable_files import write_durably

if TYPE_CHECKING:
    import optuna

STUDY, LOCK, NAME = "study.db", ".search.lock", "search"
STEPS, PLANNED, PASSES = "steps", "planned steps", "comparisons passed"
"""Attributes of a trial: optimizer steps that its run took, those that it would have taken without an early end, and how many
comparisons it may pass."""
SECONDS = 60  # that a process waits for another one which writes into the study


def opened(directory: Path) -> "optuna.Study":
    """Return the study of a search's directory, a new one where there is none."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    plan = plan_in(directory)
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{(directory / STUDY).absolute()}", engine_kwargs={"connect_args": {"timeout": SECONDS}}
    )
    direction: Literal["minimize", "maximize"] = "minimize" if plan and plan.better == "min" else "maximize"
    return optuna.create_study(study_name=NAME, storage=storage, direction=direction, load_if_exists=True)


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Let no other process run the same search while the block runs."""
    lock = FileLock(directory / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise SpaceError(f"another process runs the search of {directory}. Wait for it, or stop it.") from None
    try:
        yield
    finally:
        lock.release()


def begin_anew(directory: Path) -> None:
    """Forget what was searched before; finished runs stay."""
    for path in (directory / STUDY, directory / SEARCH, *(directory / JOBS).glob("*")):
        path.unlink(missing_ok=True)


def unfinished(study: "optuna.Study") -> list[int]:
    """Return the numbers of the trials that were proposed and whose jobs did not end: stopped, killed or failed."""
    return [trial.number for trial in study.get_trials(deepcopy=False) if not trial.state.is_finished()]


def tell(study: "optuna.Study", directory: Path, batch: Sequence[int]) -> None:
    """Tell the study of the jobs of a batch that ended, in their order."""
    import optuna

    records = _records(directory)
    for number in batch:
        record = records.get(number)
        if record and record.state == "pruned":
            study.tell(number, state=optuna.trial.TrialState.PRUNED)
        elif record and record.state == "finished" and record.figure:
            study.tell(number, record.figure[1])


def successive(numbers: Sequence[int]) -> list[int]:
    """Return the first numbers that follow one another: a launcher numbers the jobs of a batch so."""
    return [number for at, number in enumerate(numbers) if number == numbers[0] + at]


def rung_name(number: int) -> str:
    """Return the attribute of a trial that holds its figure at a comparison, counted from 1."""
    return f"figure at comparison {number}"


def waiting(study: "optuna.Study") -> dict[int, int]:
    """Return the numbers of the trials whose runs wait for others, with the comparison that each waits for."""
    found = {}
    for trial in study.get_trials(deepcopy=False):
        rung = trial.user_attrs.get(PASSES, 0) + 1
        if not trial.state.is_finished() and rung_name(rung) in trial.user_attrs:
            found[trial.number] = rung
    return found


def halve(study: "optuna.Study", directory: Path, factor: int) -> bool:
    """Compare the runs that wait with all that got as far: one in `factor` may go on, the others have ended.

    Successive halving: Jamieson and Talwalkar 2016, algorithm 1.

    Returns:
        Whether any run waited.
    """
    import optuna

    waits, plan, records = waiting(study), plan_in(directory), _records(directory)
    rung = min(waits.values(), default=0)
    trials = study.get_trials(deepcopy=False)
    figures = {trial.number: trial.user_attrs[rung_name(rung)] for trial in trials if rung_name(rung) in trial.user_attrs}
    for number in (number for number, at in waits.items() if at == rung):
        value, attributes = figures[number], trials[number].user_attrs
        others = [figure for other, figure in figures.items() if other != number]
        if Rungs(None, factor).keeps(value, others, "min" if plan and plan.better == "min" else "max"):
            optuna.Trial(study, trials[number]._trial_id).set_user_attr(PASSES, rung)
            continue
        why = behind(plan.prune_by if plan else "", value, attributes[STEPS], attributes[PLANNED], len(figures))
        if number in records:
            replace(records[number], state="pruned", message=why).write(directory)
        study.tell(number, state=optuna.trial.TrialState.PRUNED)
    return bool(waits)


def begun(directory: Path, batch: Sequence[int]) -> bool:
    """Return whether some job of a batch began."""
    return any(number in _records(directory) for number in batch)


def _records(directory: Path) -> dict[int, JobRecord]:
    """Return the records of the jobs by the number of their trial."""
    return {job.number - 1: job for job in jobs_in(directory) if job.state != "not started"}


def write_state(directory: Path, study: "optuna.Study", keys: int) -> None:
    """Write what the page and the screen say of the search.

    Args:
        keys: how many keys are swept.
    """
    import optuna

    trials = study.get_trials(deepcopy=False)
    done = [trial for trial in trials if trial.state.is_finished()]
    complete = [trial for trial in done if trial.state == optuna.trial.TrialState.COMPLETE]
    importance: dict[str, float] = {}
    if keys > 1 and len(complete) > keys and len({trial.value for trial in complete}) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importance = optuna.importance.get_param_importances(study)
    counted = [trial for trial in done if trial.user_attrs.get(PLANNED)]
    state = SearchState(
        trials=len(trials),
        complete=len(complete),
        pruned=len(done) - len(complete),
        steps=sum(int(trial.user_attrs[STEPS]) for trial in counted),
        planned=sum(int(trial.user_attrs[PLANNED]) for trial in counted),
        importance={key.lstrip("+"): float(share) for key, share in importance.items()},
    )
    write_durably(directory / SEARCH, json.dumps(asdict(state), indent=1) + "\n")
