"""A job of a search: the study hears of its figures while it runs, and a run that is behind others ends early."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

from dpo_lab.cli.search_rungs import TOGETHER, Rungs, behind
from dpo_lab.watching import BehindError, WaitingError, watched_by

SEARCH = "hydra_plugins.dpo_lab_search.Search"


def watched(config: Any) -> Any:
    """Return a context in which the run of a job is watched if a search proposed it."""
    return _watched(config) if config.hydra.sweeper._target_ == SEARCH else nullcontext()


@contextmanager
def _watched(config: Any) -> Iterator[None]:
    import optuna

    from dpo_lab.cli.search_study import PASSES, PLANNED, STEPS, opened, rung_name
    from dpo_lab.comparison.jobs import plan_in

    directory, number = Path(config.hydra.sweep.dir), int(config.hydra.job.num)
    plan, study, settings = plan_in(directory), opened(directory), config.hydra.sweeper
    trials = study.get_trials(deepcopy=False)
    trial = optuna.Trial(study, trials[number]._trial_id)
    reported = dict(trials[number].intermediate_values)
    watch = Watch(
        name=plan.prune_by if plan else "",
        better="min" if plan and plan.better == "min" else "max",
        others=[_in_order(each.intermediate_values) for each in trials if each.state.is_finished()],
        rungs=Rungs(settings.prune_from, settings.prune_factor),
        passes=int(trials[number].user_attrs.get(PASSES, 0)) if settings.sampler in TOGETHER else None,
        report=lambda value, step: None if step in reported else trial.report(value, step),
    )
    try:
        with watched_by(watch):
            yield
    finally:
        if watch.steps:  # a run that was finished before takes none
            trial.set_user_attr(STEPS, watch.step)
            trial.set_user_attr(PLANNED, watch.steps)
        for rung, value in enumerate(watch.reached, start=1):
            trial.set_user_attr(rung_name(rung), value)


def _in_order(values: Mapping[int, float]) -> list[float]:
    return [values[step] for step in sorted(values)]


class Watch:
    """Takes the figures of a run as it makes them.

    A run is compared with those that a batch before has ended, so that what becomes of it does not depend on how fast the jobs of
    its own batch are. At the last step there is nothing left to save.

    Args:
        passes: how many comparisons the run has passed, and waits at the next; None: it is compared as it comes.
    """

    def __init__(
        self,
        *,
        name: str,
        better: Literal["min", "max"],
        others: Sequence[Sequence[float]],
        rungs: Rungs,
        passes: int | None,
        report: Any,
    ) -> None:
        self.name, self.better, self.others, self.rungs, self.passes, self.report = name, better, others, rungs, passes, report
        self.seen: dict[int, float] = {}
        """The figure by step."""
        self.reached: list[float] = []
        """The figure where runs are compared."""
        self.step, self.steps = 0, 0

    def __call__(self, figures: Mapping[str, Any], step: int, steps: int) -> None:
        """Take the figures after a step; raise BehindError if the run ends here, WaitingError if it waits."""
        self.step, self.steps = max(self.step, step), steps
        value = figures.get(self.name)
        if not self.name or step in self.seen or value is None:
            return
        self.seen[step] = float(value)
        self.report(float(value), step)
        count = len(self.seen)
        self.rungs.see(count, step, steps)
        if step < steps and count in self.rungs:
            self.reached.append(float(value))
            if self.passes is None:
                self.compare(float(value), [values[count - 1] for values in self.others if len(values) >= count])
            elif len(self.reached) > self.passes:
                raise WaitingError(f"waits after step {step} of {steps} until the others have got as far")

    def compare(self, value: float, others: Sequence[float]) -> None:
        """Raise BehindError if the run is behind others."""
        if not self.rungs.keeps(value, others, self.better):
            raise BehindError(behind(self.name, value, self.step, self.steps, len(others) + 1))
