"""`dpo-lab ls [WHAT] [DIR]`: the runs of an outputs directory, and the groups, options and experiments that can be chosen.

Exit codes: 0, 2 for what does not exist.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dpo_lab.cli.conf import groups, options, summary
from dpo_lab.cli.session import USAGE as USAGE_CODE
from dpo_lab.cli.session import complain
from dpo_lab.conf_files import CONF
from dpo_lab.folding import folded
from dpo_lab.spelling import nearest

USAGE = """usage: dpo-lab ls [runs | groups | experiments | GROUP] [DIR]

list what is there: without a word groups with their options, experiments, and the runs of an outputs directory

  runs         state, figure, age, size (with the parts that no other run is made from)
  groups       what can be chosen, with the options
  experiments  whole recipes by name
  GROUP        the options of one group, such as loss, with what each is
  DIR          an outputs directory; outputs if it is left out

exit codes: 0, 2 for what does not exist
"""
WORDS = ("runs", "groups", "experiments")
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def ls(words: Sequence[str]) -> int:
    """List what was asked for; return the exit code."""
    if {"-h", "--help"} & set(words):
        sys.stdout.write(folded(USAGE))
        return 0
    if option := next((word for word in words if word.startswith("-")), ""):
        return complain(f"{option} is not an option of ls, which has none. Write dpo-lab ls runs DIR", USAGE_CODE)
    what = words[0] if words and words[0] in (*WORDS, *groups()) else ""
    rest = list(words[1:] if what else words)
    if len(rest) > 1:
        return complain(f"{' '.join(rest)}: ls takes one directory. Write dpo-lab ls runs DIR", USAGE_CODE)
    outputs = Path(rest[0] if rest else "outputs")
    if rest and not outputs.is_dir():
        meant = nearest(rest[0], (*WORDS, *groups()))
        return complain(f"{rest[0]} is neither a directory nor something to list.{meant} See dpo-lab ls --help", USAGE_CODE)
    lines: list[str] = []
    if what in ("", "groups"):
        lines += ["groups", *(f"  {name:12} {' '.join(options(name))}" for name in groups()), ""]
    if what in ("", "experiments"):
        lines += ["experiments", *options_lines("experiment"), ""]
    if what in groups():
        lines += [f"{what}: {groups()[what]}", *options_lines(what), ""]
    if what in ("", "runs"):
        lines += [f"runs in {outputs}", *(run_lines(outputs) or ["  none"]), ""]
    sys.stdout.write(folded("\n".join(lines)))
    return 0


def options_lines(group: str) -> list[str]:
    """Return the options of a group, each with the first line of its yaml."""
    width = max(map(len, options(group)), default=0)
    return [f"  {name:{width}}  {summary(CONF / group / f'{name}.yaml')}" for name in options(group)]


def run_lines(outputs: Path) -> list[str]:
    """Return a line for each run, the newest first."""
    from dpo_lab.amounts import bytes_text
    from dpo_lab.artifacts import is_being_made
    from dpo_lab.comparison.metric import metric_of
    from dpo_lab.comparison.runs import runs_named
    from dpo_lab.disk_use import kept_below, own_bytes

    kept = kept_below(outputs)
    sizes, now = own_bytes(kept), time.time()
    rows = []
    for each in sorted((artifact for artifact in kept if artifact.is_run), key=lambda each: -each.written):
        (run,) = runs_named([each.path])
        metric = metric_of([run])
        state = run.state if each.finished or run.state == "damaged" else "running" if is_being_made(each.path) else "unfinished"
        figure = f"{metric.key} {metric.text(metric.of(run))}" if metric and state == "finished" else "-"
        group = str(run.record.run.get("group") or "")
        rows.append([each.path.name, state, figure, age(now - each.written), bytes_text(sizes[each.path]), group])
    if not rows:
        return []
    head = ["name", "state", "figure", "age", "size", "group"]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  " + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]


def age(seconds: float) -> str:
    """Return how long ago something was, in one unit.

    >>> [age(each) for each in (5, 130, 7300, 200_000)]
    ['5 s', '2 min', '2 h', '2 d']
    """
    size, unit = next((each for each in UNITS if seconds >= each[0]), UNITS[-1])
    return f"{max(0, seconds) // size:.0f} {unit}"
