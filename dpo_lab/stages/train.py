"""The stage `train`: rounds of getting pairs, DPO and evaluation, then the report."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from dpo_lab.alignment import Alignment
from dpo_lab.artifacts import Artifact, Plan
from dpo_lab.call import Call
from dpo_lab.components import ConfigError, RunError, component, plain_fields
from dpo_lab.data.base import GivenPairs
from dpo_lab.data.problems import DataError
from dpo_lab.loggers.base import LocalLogger, RunIdentity, RunLogger
from dpo_lab.loggers.recorder import send_recorded
from dpo_lab.losses.base import PreferenceLoss
from dpo_lab.pipeline.real_model import ask_hub_early, refuse_unusable_model
from dpo_lab.pipeline.run_record import identity_of
from dpo_lab.pipeline.screen import Screen
from dpo_lab.progress import say
from dpo_lab.records import PreferencePair
from dpo_lab.rules import data as rules_of_data
from dpo_lab.rules.check import broken, refuse, refuse_illegal, refuse_slowly
from dpo_lab.rules.figures import summary_figures
from dpo_lab.run_directory import CHANGING, RunDirectory

NOT_READ = ("max_length", "truncation", "order", "sampler", "ranker", "pairing")
"""Fields of data that change nothing of what is read."""
Found = Exception | list[GivenPairs]
"""What reading data found: pairs, none where they are made later, or why they cannot be used."""
PLACES = ("1 pretrain", "model ", "report ", "next ", "     ")
"""How the lines of the end screen begin that name directories."""


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
            DataError: if rows cannot be used.
            RunError: if the loss reads a label that some pairs do not have.
        """
        if not self.force and self._plan().finished():
            return
        key = self._data_key()
        if key not in read:
            try:
                read[key] = self._read()
                refuse(broken(self, rules_of_data.SLOW_RULES))
            except (ConfigError, DataError, RunError) as error:
                read[key] = error
        found = read[key]
        if isinstance(found, Exception):
            raise found
        self._refuse_unlabelled(found)

    def _read(self) -> list[GivenPairs]:
        return self.data.load(self.iteration.rounds)

    def _refuse_unlabelled(self, given: Sequence[GivenPairs]) -> None:
        if given:
            refuse_unlabelled(self.loss, [pair for each in given for pair in (*each.train, *each.held_out)], self.data.label)

    def _data_key(self) -> str:
        """Return what decides what reading finds: not how long rows may be, nor in which order they are taken."""
        parts = (self.data, self.data.asks, self.evaluation.asks)
        fields = [plain_fields(part) if part else None for part in parts]
        kept = [{name: value for name, value in each.items() if name not in NOT_READ} if each else None for each in fields]
        return json.dumps([kept, self.iteration.rounds, self.iteration.prompts], sort_keys=True)

    def _plan(self) -> Plan:
        name = f"{self.model.label}-{self.loss.label}-{self.data.label}"
        return Plan(self.outputs, "train", name, self.content(), apart=CHANGING)

    def _given(self) -> list[GivenPairs] | None:
        given = self._read()
        self._refuse_unlabelled(given)
        return given or None

    def figure(self, summary: dict[str, Any]) -> tuple[str, float] | None:
        """Return name and value of the figure by which this run is compared with others, None without one.

        Args:
            summary: that `run` returned.

        Raises:
            RunError: if the figure that was asked for is not in it.
        """
        figures = summary_figures(self.evaluation, self.data, self.iteration, self.reference, self.loss)
        name = self.optimized_metric or next(iter(figures), "")
        if name in summary:
            return name, float(summary[name])
        if not self.optimized_metric:
            return None
        found = ", ".join(key for key in summary if not key.startswith("seconds/"))
        raise RunError(
            f"optimized_metric={name}: the run is finished and kept, but its summary has no such figure: its pairs lack the "
            f"labels that it needs, or none are held out. It has: {found}."
        )

    def run(self, call: Call | None = None) -> dict[str, Any]:
        """Run the stage, or return the figures of a finished run at once.

        Args:
            call: what the command line asked for, which the run records; None from Python.

        Returns:
            The summary: the end screen's figures as flat keys.

        Raises:
            ConfigError: before anything heavy loads, if a part cannot work, alone or with the others.
        """
        ask_hub_early(self)
        refuse_illegal(self)
        plan = self._plan()
        run = identity_of(plain_fields(self), plan, call, tags=self.tags, notes=self.notes, group=self.group)
        if (done := plan.finished(with_parents=True)) and not self.force:
            return show_finished(done, run, self.logger)
        refuse_unusable_model(self)
        refuse_slowly(self)
        screen = Screen()
        given = self._given()
        from dpo_lab.pipeline.rounds import run_rounds  # the parts that load Lightning, only when there is work

        made = plan.make(
            lambda directory: run_rounds(self, given, screen, run, self.logger, call, force=self.force),
            force=self.force,
            resume=True,
        )
        return RunDirectory(made.path).summary() if made.made_now else show_finished(made, run, self.logger)


def refuse_unlabelled(loss: PreferenceLoss, pairs: Sequence[PreferencePair], source: str) -> None:
    """Raise RunError if the loss reads a score or a preference that pairs do not have."""
    unknown = {name: sum(getattr(pair, name) is None for pair in pairs) for name in loss.needs_labels}
    if lacking := {name: count for name, count in unknown.items() if count}:
        counts = ", ".join(f"{count} of {len(pairs)} pairs of {source} have no {name}" for name, count in lacking.items())
        raise RunError(f"this loss reads {' and '.join(loss.needs_labels)}; {counts}. Add the columns, or use loss=dpo.")


def show_finished(run: Artifact, identity: RunIdentity, loggers: Mapping[str, RunLogger]) -> dict[str, Any]:
    """Print the end screen of a finished run, send its figures to loggers that have not got them, and say what was done."""
    recorded = RunDirectory(run.path)
    summary = recorded.summary()
    sent = send_recorded(identity, loggers, summary, recorded.run().get("samples", ()))
    say(moved(recorded.screen(), recorded.config()["outputs"], str(run.path.parent.parent)))
    what = f"its figures were sent to {', '.join(sent)}, and nothing was trained" if sent else "nothing was done"
    say(f"this run was finished before, in {run.seconds:.0f} s; {what}. force=true starts over.")
    return summary


def moved(screen: str, before: str, now: str) -> str:
    """Return an end screen whose lines about places name where the outputs are now.

    >>> print(moved("report outputs/train/a/report.html\\n  after: in outputs/train", "outputs", "copy"))
    report copy/train/a/report.html
      after: in outputs/train
    """
    place = re.compile(rf"(?<![\w/.-]){re.escape(before)}/(?=(?:model|policy|train)/)")
    lines = (place.sub(f"{now}/", line) if line.startswith(PLACES) else line for line in screen.splitlines())
    return "\n".join(lines)
