"""The end of a sweep or of a comparison: its files, its page, and what the screen says."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dpo_lab.comparison.best import standing
from dpo_lab.comparison.files import BEST, CSV, PAGE, best_of, command_of, write_files
from dpo_lab.comparison.jobs import plan_in
from dpo_lab.comparison.metric import metric_of
from dpo_lab.comparison.page import page_of
from dpo_lab.comparison.runs import Run, runs_of_sweep
from dpo_lab.comparison.search import search_in
from dpo_lab.comparison.table import failure_lines, tables
from dpo_lab.comparison.words import state_line, verdict_lines
from dpo_lab.durable_files import write_durably


@dataclass(frozen=True)
class Conclusion:
    """What became of runs."""

    lines: list[str]
    """For the screen."""
    runs: list[Run]

    @property
    def unfinished(self) -> list[Run]:
        """The runs that neither finished nor were ended early by a search."""
        return [run for run in self.runs if run.state not in ("finished", "pruned")]


def conclude(sweep: Path) -> Conclusion:
    """Write the files of a sweep from what its jobs left on disk, and return what there is to say.

    Raises:
        OSError: if the directory cannot be written.
    """
    plan = plan_in(sweep)
    return _concluded(runs_of_sweep(sweep), sweep, plan.metric if plan else "", plan.command if plan else "")


def conclude_runs(runs: Sequence[Run], place: Path, *, by: str = "") -> Conclusion:
    """Write the files of a comparison of runs, and return what there is to say.

    Args:
        place: the directory that they go to.
        by: the figure that sorts the runs; empty: the main one.

    Raises:
        ValueError: if no finished run has the figure.
        OSError: if the directory cannot be written.
    """
    if by and metric_of(runs, by) is None:
        known = dict.fromkeys(key for run in runs for figure in run.figures for key in figure.keys if run.value(key) is not None)
        raise ValueError(
            f"--by {by}: no finished run has it. Valid: {', '.join(known)}." if known else f"--by {by}: no run has figures."
        )
    place.mkdir(parents=True, exist_ok=True)
    return _concluded(list(runs), place, by, "")


def _concluded(runs: list[Run], place: Path, asked: str, command: str) -> Conclusion:
    metric = metric_of(runs, asked)
    found = standing(runs, metric) if metric else None
    write_files(place, runs, found, command)
    noun = "job" if any(run.job for run in runs) else "run"
    lines = ["", state_line(runs, noun), *tables(runs, found), *failure_lines(runs, place)]
    if found:
        lines += verdict_lines(found)
    if search := search_in(place):
        lines += search.lines
    best = best_of(found)
    lines += [f"again  {command_of(best)}"] if best and command_of(best) else []
    kept = [CSV, *([BEST] if best else [])]
    if any(run.record.run for run in runs):
        page = page_of(runs, found, title=place.name, command=command, place=place)
        write_durably(place / PAGE, page.encode("utf-8", "replace").decode("utf-8"))  # half a surrogate pair becomes "?"
        kept = [PAGE, *kept]
    lines.append(f"page   {place / kept[0]}" + "".join(f", {name}" for name in kept[1:]))
    return Conclusion(lines, runs)
