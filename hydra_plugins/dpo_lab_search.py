"""Hydra's sweeper `search`: Optuna proposes points, a launcher runs them as jobs, runs that are behind end early.

It stands in the name space `hydra_plugins`, because Hydra takes plugins from nowhere else. Hydra imports it in every call of the
program, so that it loads Optuna and the parts of dpo_lab only when it searches.

A trial of the study is a job of the sweep: trial 0 is job 1. Only the numbers of trials and what was told of them go into a
proposal, so that a search which was killed proposes what an undisturbed one does. A trial whose job did not end stays RUNNING
in the study, and the same command runs it first.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    import optuna

    from dpo_lab.cli.search_space import Space

STARTUP = 6  # points that TPE draws at random before it looks at results


@dataclass
class SearchConf:
    """What `hydra.sweeper.*` sets."""

    _target_: str = "hydra_plugins.dpo_lab_search.Search"
    params: dict[str, str] | None = None
    """Swept keys of a kept search, as on the command line."""
    sampler: str = "tpe"
    """tpe, random, or grid."""
    trials: int | None = None
    """How many points; null: 20, of a grid all."""
    seed: int = 0
    """Of the sampler."""
    max_batch_size: int | None = None
    """How many jobs a launcher is given at a time; null: one, with a launcher that runs several as many as that."""
    prune_by: str | None = "same"
    """Name of the figure by which runs end early; same: the one that is optimized; null: every run goes to its end."""
    prune_from: int | None = None
    """How often the figure was measured when runs are first compared; null: as often as it takes to a third of the steps."""
    prune_factor: int = 3
    """Of the runs that got as far, one in so many goes on; they are compared again after so many times as many measurements."""


ConfigStore.instance().store(group="hydra/sweeper", name="search", node=SearchConf, provider="dpo_lab")


class Search(Sweeper):
    """Asks the study for points, has them run, and tells it what became of them."""

    def __init__(self, **settings: Any) -> None:
        self.settings = SearchConf(**settings)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what the jobs need."""
        self.composed, self.loader = config, hydra_context.config_loader
        self.chosen_launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the search to its end, from where a call before has left it."""
        from dpo_lab.cli.search_rungs import TOGETHER
        from dpo_lab.cli.search_space import space_of
        from dpo_lab.cli.search_study import alone_in, begin_anew, write_state

        kept = [f"{key}={value}" for key, value in (self.settings.params or {}).items()]
        space, self.fixed = space_of(OverridesParser.create(config_loader=self.loader).parse_overrides([*kept, *arguments]))
        self.directory = Path(self.composed.hydra.sweep.dir)
        self.directory.mkdir(parents=True, exist_ok=True)
        with alone_in(self.directory):
            OmegaConf.save(self.composed, self.directory / "multirun.yaml")
            if self.composed.get("force"):
                begin_anew(self.directory)
            together = self.settings.prune_by and self.settings.sampler in TOGETHER
            (self.run_together if together else self.run)(space)
            write_state(self.directory, self.study(), len(space))

    def study(self) -> "optuna.Study":
        """Return the study."""
        from dpo_lab.cli.search_study import opened

        return opened(self.directory)

    def run(self, space: "Space") -> None:
        """Run what calls before left unfinished, then new points."""
        from dpo_lab.cli.search_study import successive, unfinished, write_state

        study, total = self.study(), self.total()
        jobs = [self.overrides(study, space, number) for number in range(len(study.get_trials(deepcopy=False)))]
        self.note(jobs)
        waiting = unfinished(study)
        while waiting or len(jobs) < total:
            at_once = self.at_once()
            if waiting:
                batch = successive(waiting[:at_once])
                waiting = waiting[len(batch) :]
            else:
                batch = list(range(len(jobs), min(len(jobs) + at_once, total)))
                for _ in batch:
                    study.ask()
                    jobs.append(self.overrides(study, space, len(jobs)))
            self.launch(study, jobs, batch)
            write_state(self.directory, study, len(space))

    def run_together(self, space: "Space") -> None:
        """Draw all points; take all runs to where they are compared, and the best of them on, until none waits."""
        from dpo_lab.cli.search_study import PASSES, halve, successive, unfinished, waiting, write_state

        study = self.study()
        for _ in range(len(study.get_trials(deepcopy=False)), self.total()):
            study.ask()
        trials = study.get_trials(deepcopy=False)
        jobs = [self.overrides(study, space, number) for number in range(len(trials))]
        launched: set[tuple[int, int]] = set()  # a job that fails is not run again in this call
        while True:
            passes = {trial.number: trial.user_attrs.get(PASSES, 0) for trial in study.get_trials(deepcopy=False)}
            ready = [number for number in unfinished(study) if number not in waiting(study)]
            ready = [number for number in ready if (number, passes[number]) not in launched]
            if ready:
                batch = successive(ready[: self.at_once()])
                launched.update((number, passes[number]) for number in batch)
                self.launch(study, jobs, batch)
            elif not halve(study, self.directory, self.settings.prune_factor):
                return
            write_state(self.directory, study, len(space))

    def launch(self, study: "optuna.Study", jobs: list[list[str]], batch: list[int]) -> None:
        """Run the jobs of a batch and tell the study how they ended.

        A launcher fails with a process that was killed, though others of the batch ended well: the records of the jobs say more.
        """
        from dpo_lab.cli.search_study import begun, tell

        self.note(jobs)
        try:
            self.chosen_launcher.launch([jobs[number] for number in batch], initial_job_idx=batch[0])
        except Exception:
            if not begun(self.directory, batch):
                raise
        finally:
            tell(study, self.directory, batch)

    def note(self, jobs: list[list[str]]) -> None:
        """Write the overrides of all jobs so far into the plan of the sweep."""
        from dpo_lab.comparison.jobs import plan_in

        if plan := plan_in(self.directory):
            replace(plan, jobs=tuple(map(tuple, jobs))).write(self.directory)

    def total(self) -> int:
        """Return how many points there will be."""
        from dpo_lab.cli.sweeps import points_of

        return points_of(self.composed)

    def at_once(self) -> int:
        """Return how many jobs the launcher is given at a time."""
        several = self.composed.hydra.launcher.get("n_jobs", 1)
        return int(self.settings.max_batch_size or max(1, several))

    def overrides(self, study: "optuna.Study", space: "Space", number: int) -> list[str]:
        """Return the overrides of a trial; what it has not drawn yet is drawn now, from its number and from what was told."""
        import optuna

        from dpo_lab.seeding import derive

        trial_id = study.get_trials(deepcopy=False)[number]._trial_id
        drawn = []
        for key, dimension in space.items():
            study.sampler = self.sampler(space, number, derive(self.settings.seed, "search", number, key) % 2**32)
            drawn.append(f"{key}={dimension.draw(optuna.Trial(study, trial_id), key)}")
        return [*drawn, *self.fixed]

    def sampler(self, space: "Space", number: int, seed: int) -> Any:
        """Return the sampler that draws a value of a trial: a new one each time, since a kill would lose its state."""
        import optuna

        from dpo_lab.cli.search_space import Choice, points

        if self.settings.sampler == "tpe":
            return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)
        chance = optuna.samplers.RandomSampler(seed=seed)
        if self.settings.sampler == "random":
            return chance
        point = points(space)[number]
        fixed = {key: dimension.value_of(point[key]) for key, dimension in space.items() if isinstance(dimension, Choice)}
        return optuna.samplers.PartialFixedSampler(fixed, chance)
