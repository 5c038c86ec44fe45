"""Which tasks and figures lm-evaluation-harness has under some names."""

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dpo_lab.components import ConfigError
from dpo_lab.hub import innermost
from dpo_lab.progress import say
from dpo_lab.spelling import nearest

NO_FILTER = "none"
"""What the harness calls an answer that no filter has changed."""


@dataclass(frozen=True, kw_only=True)
class TaskFigure:
    """A number that the harness gives for a task, or for a group of tasks."""

    task: str
    metric: str
    filter: str
    better: bool | None
    """Whether a higher number is better; None: nothing says so."""
    headline: bool
    """Whether the task was asked for by its name; others are parts of a group."""
    tasks: tuple[str, ...]
    """The tasks whose documents it is made of: of a task, itself."""

    @property
    def key(self) -> str:
        """How the harness calls it in its results.

        >>> TaskFigure(task="gsm8k", metric="exact_match", filter="strict", better=True, headline=True, tasks=("gsm8k",)).key
        'exact_match,strict'
        """
        return f"{self.metric},{self.filter}"

    @property
    def name(self) -> str:
        """How we call it.

        >>> TaskFigure(task="gsm8k", metric="exact_match", filter="strict", better=True, headline=True, tasks=("gsm8k",)).name
        'lm_eval/gsm8k/exact_match/strict'
        """
        return "/".join(["lm_eval", self.task, self.metric, *([self.filter] if self.filter != NO_FILTER else [])])

    @property
    def words(self) -> str:
        """The name for people."""
        return f"{self.task} {self.metric}{f' ({self.filter})' if self.filter != NO_FILTER else ''}"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the harness's log and its bars from the screen: the progress of the requests is shown by ourselves."""
    log = logging.getLogger("lm_eval")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        log.setLevel(before)


@cache
def catalogue(names: tuple[str, ...], include_path: Path | None) -> Any:
    """Return the harness's `TaskManager` that knows the names: of a directory alone where that has all of them.

    Raises:
        ConfigError: for a name that is neither a task, a group nor a tag.
    """
    from lm_eval.tasks import TaskManager

    own = str(include_path) if include_path else None
    if own:
        with quiet():
            few = TaskManager(include_path=own, include_defaults=False)
        if all(name in few.all_tasks and name not in few.all_groups for name in names):  # a group may name tasks of elsewhere
            return few
    say("  reading the list of lm-evaluation-harness's tasks")
    with quiet():
        every = TaskManager(include_path=own)
    if unknown := [name for name in names if name not in every.all_tasks]:
        near = nearest(unknown[0], every.all_tasks)
        where = f"nor is there one in {own}. " if own else ""
        raise ConfigError(
            f"benchmark.tasks: lm-evaluation-harness has no task {unknown[0]!r}{'; ' if where else '.'}{where}{near} "
            "`lm-eval ls tasks` lists its tasks; benchmark.include_path=DIR adds yours.".replace("  ", " ")
        )
    return every


@cache
def figures_of(names: tuple[str, ...], include_path: Path | None) -> tuple[TaskFigure, ...]:
    """Return the figures of tasks, groups and tags; reads the tasks' documents once, so that a missing set is known early.

    Raises:
        ConfigError: for an unknown name, or a task whose documents cannot be read.
    """
    manager = catalogue(names, include_path)
    try:
        with quiet():
            found = manager.load(list(names))
    except Exception as error:  # a task is foreign code, and reads whatever it likes
        raise ConfigError(
            f"benchmark.tasks=[{','.join(names)}]: lm-evaluation-harness cannot load a task ({innermost(error)}). Connect to the "
            "Hub if its documents are there, or correct the task's yaml."
        ) from error
    groups = found.get("groups", {})
    of_groups = {each.task_name for group in groups.values() if group.has_aggregation for each in group.get_all_tasks()}
    figures = []
    for name, group in groups.items():
        leaves = group.get_all_tasks()
        for asked in group.aggregate_metric_list or ():
            filters = asked.filter_list or list(dict.fromkeys(chosen for leaf in leaves for chosen in filters_of(leaf)))
            better = next((leaf.higher_is_better().get(asked.metric) for leaf in leaves), None)
            leaf_names = tuple(leaf.task_name for leaf in leaves)
            figures += _of(name, [asked.metric], filters, {asked.metric: better}, headline=name in names, tasks=leaf_names)
    for name, task in found["tasks"].items():
        headline = name in names or name not in of_groups
        better_of = task.higher_is_better()
        figures += _of(name, list(task.aggregation()), filters_of(task), better_of, headline=headline, tasks=(name,))
    return tuple(figures)


def _of(
    task: str, metrics: Sequence[str], filters: Sequence[str], better: Any, *, headline: bool, tasks: tuple[str, ...]
) -> list[TaskFigure]:
    return [
        TaskFigure(task=task, metric=metric, filter=name, better=better.get(metric), headline=headline, tasks=tasks)
        for metric in metrics
        for name in filters
    ]


def filters_of(task: Any) -> list[str]:
    """Return what the filters of a task's answers are called."""
    return [str(entry["name"]) for entry in task.config.filter_list or ()] or [NO_FILTER]
