"""The stage `train`: rounds of getting pairs, DPO and evaluation, then the report."""

from dataclasses import field
from functools import partial
from typing import Any

from dpo_lab.alignment import Alignment
from dpo_lab.artifacts import Plan
from dpo_lab.call import Call
from dpo_lab.components import ConfigError, RunError, component, plain_fields, refused_parts
from dpo_lab.data.problems import DataError
from dpo_lab.loggers.base import LocalLogger, RunLogger
from dpo_lab.naming import as_named, settled
from dpo_lab.pipeline.finished import show_finished
from dpo_lab.pipeline.given_pairs import Found, data_key, given_pairs, read_pairs, refuse_unlabelled
from dpo_lab.pipeline.real_model import ask_hub_early, refuse_unusable_model
from dpo_lab.pipeline.run_record import identity_of
from dpo_lab.pipeline.screen import Screen
from dpo_lab.rules import data as rules_of_data
from dpo_lab.rules.check import broken, refuse, refuse_illegal, refuse_slowly
from dpo_lab.rules.figures import compared_figure, summary_figures
from dpo_lab.run_directory import CHANGING, RunDirectory


@component
class Train(Alignment):
    """Rounds of getting pairs, DPO and evaluation, then the report."""

    logger: dict[str, RunLogger] = field(default_factory=lambda: {"local": LocalLogger()})
    force: bool = False
    """Start over even if the run is finished; the base model, made once, stays."""
    tags: tuple[str, ...] = ()
    """Words to find the run by."""
    notes: str = ""
    """What the run is for, in your own words."""
    group: str | None = None
    """Name of the runs that this one belongs to; in a multirun the sweep's name, unless given."""
    optimized_metric: str = ""
    """Figure of summary.json by which runs are compared or searched; empty: eval/accuracy, or <judge>/after for answers."""

    def check_data(self, read: dict[str, Found]) -> None:
        """Read and check what `run` would read, unless it is finished: rows, splits, labels of the loss, prompts of all rounds.

        Args:
            read: what earlier jobs of a sweep have read, and what was wrong with it; gets this job's.

        Raises:
            ConfigError: if prompts do not suffice or a split is asked of a file.
            DataError, RunError: if rows cannot be used, or some lack a label that the loss reads.
        """
        if not self.force and self.plan().finished():
            return
        key = data_key(self.data, self.evaluation, self.iteration)
        if key not in read:
            try:
                read[key] = read_pairs(self.data, self.iteration.rounds)
                refuse([*refused_parts(self.evaluation, "evaluation", slowly=True), *broken(self, rules_of_data.SLOW_RULES)])
            except (ConfigError, DataError, RunError) as error:
                read[key] = error
        pairs = read[key]
        if isinstance(pairs, Exception):
            raise pairs
        refuse_unlabelled(self.loss, pairs, self.data.label)

    def plan(self, call: Call | None = None) -> Plan:
        """Return where the run is or goes, and what determines it."""
        name, words = f"{self.model.label}-{self.loss.label}-{self.data.label}", call.words if call else ()
        return as_named(Plan(self.outputs, "train", name, self.content(), apart=CHANGING), words)

    def figure(self, summary: dict[str, Any]) -> tuple[str, float] | None:
        """Return name and value of the figure by which this run is compared; RunError without the one that was asked for."""
        figures = summary_figures(self.evaluation, self.data, self.iteration, self.reference, self.loss)
        return compared_figure(self.optimized_metric, figures, summary)

    def run(self, call: Call | None = None) -> dict[str, Any]:
        """Run the stage; return the end screen's figures as flat keys, those of a finished run at once.

        Args:
            call: what the command line asked for, which the run records; None from Python.

        Raises:
            ConfigError: before anything heavy loads, if a part cannot work, alone or with the others.
        """
        ask_hub_early(self.model, self.data, self.evaluation)
        refuse_illegal(self)
        called = partial(identity_of, plain_fields(self), call=call, tags=self.tags, notes=self.notes, group=self.group)
        if (done := (plan := self.plan(call)).finished(with_parents=True)) and not self.force:
            return show_finished(done, called(plan), self.logger)
        refuse_unusable_model(self.model, self.data.max_length)
        refuse_slowly(self)
        screen, given = Screen(), given_pairs(self.data, self.loss, self.iteration.rounds)
        from dpo_lab.pipeline.rounds import run_rounds  # the parts that load Lightning, only when there is work

        run = called(plan := settled(plan, lambda: self.plan(call)))
        trained = plan.make(
            lambda directory: run_rounds(self, given or None, screen, run, self.logger, call, force=self.force),
            force=self.force,
            resume=True,
        )
        return RunDirectory(trained.path).summary() if trained.made_now else show_finished(trained, run, self.logger)
