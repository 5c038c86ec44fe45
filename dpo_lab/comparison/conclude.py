"""The end of a sweep: its files, its page, and what the screen says."""

from dataclasses import dataclass
from pathlib import Path

from dpo_lab.comparison.best import standing
from dpo_lab.comparison.files import BEST, CSV, PAGE, best_of, command_of, write_files
from dpo_lab.comparison.jobs import plan_in
from dpo_lab.comparison.metric import metric_of
from dpo_lab.comparison.page import page_of
from dpo_lab.comparison.runs import Run, runs_of_sweep
from dpo_lab.comparison.table import failure_lines, tables
from dpo_lab.comparison.words import state_line, verdict_lines
from dpo_lab.durable_files import write_durably


@dataclass(frozen=True)
class Conclusion:
    """What became of a sweep."""

    lines: list[str]
    """For the screen."""
    runs: list[Run]

    @property
    def unfinished(self) -> list[Run]:
        """The runs that did not finish."""
        return [run for run in self.runs if run.state != "finished"]


def conclude(sweep: Path) -> Conclusion:
    """Write the files of a sweep from what its jobs left on disk, and return what there is to say.

    Raises:
        OSError: if the directory cannot be written.
    """
    plan, runs = plan_in(sweep), runs_of_sweep(sweep)
    metric = metric_of(runs, plan.metric if plan else "")
    found = standing(runs, metric) if metric else None
    write_files(sweep, runs, found, plan.command if plan else "")
    lines = ["", state_line(runs), *tables(runs, found), *failure_lines(runs, sweep)]
    if found:
        lines += verdict_lines(found)
    if best := best_of(found):
        lines += [f"again  {command_of(best)}"] if command_of(best) else []
    kept = [CSV, *([BEST] if best else [])]
    if any(run.record.run for run in runs):
        command = plan.command if plan else ""
        write_durably(sweep / PAGE, encodable(page_of(runs, found, title=sweep.name, command=command, place=sweep)))
        kept = [PAGE, *kept]
    lines.append(f"sweep  {sweep / kept[0]}" + "".join(f", {name}" for name in kept[1:]))
    return Conclusion(lines, runs)


def encodable(page: str) -> str:
    """Return a page that UTF-8 can hold: half of a surrogate pair, which an answer may hold, becomes a question mark."""
    return page.encode("utf-8", "replace").decode("utf-8")
