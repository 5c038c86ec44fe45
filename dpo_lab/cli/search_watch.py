"""A job of a search: the study hears of its figures while it runs, and a run that is behind others ends early."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

from dpo_lab.watching import BehindError, watched_by

SEARCH = "hydra_plugins.dpo_lab_search.Search"


def watched(config: Any) -> Any:
    """Return a context in which the run of a job is watched if a search proposed it."""
    return _watched(config) if config.hydra.sweeper._target_ == SEARCH else nullcontext()


@contextmanager
def _watched(config: Any) -> Iterator[None]:
    import optuna

    from dpo_lab.cli.search_study import PLANNED, STEPS, opened
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
        report=lambda value, step: None if step in reported else trial.report(value, step),
    )
    try:
        with watched_by(watch):
            yield
    finally:
        if watch.steps:  # a run that was finished before takes none
            trial.set_user_attr(STEPS, watch.step)
            trial.set_user_attr(PLANNED, watch.steps)


def _in_order(values: Mapping[int, float]) -> list[float]:
    return [values[step] for step in sorted(values)]


EARLIEST = 3
"""Runs are compared from the first measurement that has one in so many of their steps behind it."""


class Rungs:
    """When runs are compared: after `first` measurements, and after `factor` times as many each time.

    Without `first`, from the first measurement after a third of the steps: before, the warm-up counts more than the settings, and
    the runs that end best can be the last ones.
    """

    def __init__(self, first: int | None, factor: int) -> None:
        self.first, self.factor = first, factor

    def see(self, count: int, step: int, steps: int) -> None:
        """Take after how many steps of all a run was measured for the `count`-th time.

        >>> rungs = Rungs(None, 2)
        >>> [step for count, step in enumerate(range(2, 15, 2), start=1) if rungs.see(count, step, 14) or count in rungs]
        [6, 12]
        """
        if self.first is None and step * EARLIEST >= steps:
            self.first = count

    def __contains__(self, count: int) -> bool:
        """Return whether runs are compared after so many measurements.

        >>> [count for count in range(1, 40) if count in Rungs(2, 3)]
        [2, 6, 18]
        """
        rung = self.first or count + 1
        while rung < count:
            rung *= self.factor
        return rung == count

    def keeps(self, value: float, others: Sequence[float], better: Literal["min", "max"]) -> bool:
        """Return whether a run continues: it is among the best of all that got as far, one in `factor` of them.

        Args:
            others: values of the runs before, after as many measurements.

        >>> [Rungs(1, 3).keeps(value, [1.0, 2.0, 3.0, 4.0, 5.0], "max") for value in (5.5, 4.5, 0.5)]
        [True, True, False]
        """
        ahead = sum(other > value if better == "max" else other < value for other in others)
        return ahead < max(1, (len(others) + 1) // self.factor)


class Watch:
    """Takes the figures of a run as it makes them.

    A run is compared with those that a batch before has ended, so that what becomes of it does not depend on how fast the jobs of
    its own batch are. At the last step there is nothing left to save.
    """

    def __init__(
        self, *, name: str, better: Literal["min", "max"], others: Sequence[Sequence[float]], rungs: Rungs, report: Any
    ) -> None:
        self.name, self.better, self.others, self.rungs, self.report = name, better, others, rungs, report
        self.seen: dict[int, float] = {}
        """The figure by step."""
        self.step, self.steps = 0, 0

    def __call__(self, figures: Mapping[str, Any], step: int, steps: int) -> None:
        """Take the figures after a step; raise BehindError if the run ends here."""
        self.step, self.steps = max(self.step, step), steps
        value = figures.get(self.name)
        if not self.name or step in self.seen or value is None:
            return
        self.seen[step] = float(value)
        self.report(float(value), step)
        count = len(self.seen)
        self.rungs.see(count, step, steps)
        others = [values[count - 1] for values in self.others if len(values) >= count]
        if step < steps and count in self.rungs and not self.rungs.keeps(float(value), others, self.better):
            raise BehindError(
                f"ended after step {step} of {steps}: {self.name} {value:.4g} is not among the best of the "
                f"{len(others) + 1} runs that got as far"
            )
