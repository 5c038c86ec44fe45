"""`dpo-lab clean`: remove runs by age or sweep, and the parts that only they are made from; without --yes it only says what.

Exit codes: 0, 1 where something could not be removed, 2 for what cannot be understood.
"""

import re
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dpo_lab.cli.session import ERROR, complain
from dpo_lab.cli.session import USAGE as USAGE_CODE
from dpo_lab.folding import folded

if TYPE_CHECKING:
    from dpo_lab.disk_use import Kept, Removal

USAGE = """usage: dpo-lab clean [DIR] [--older-than 30d] [--sweep NAME] [--not-best] [--yes]

remove runs, and the parts that only they are made from; what something that stays is made from, stays

  DIR               an outputs directory; outputs if it is left out
  --older-than 30d  runs that were finished, or last written to, so long ago: 12h, 30d, 8w
  --sweep NAME      runs of one sweep: the name of a directory in outputs/sweep, or its path
  --not-best        runs of sweeps that are not the best one of any sweep (best.yaml)
  --yes             remove them; without it clean says what would go, and how much room that gives

A run has to meet all conditions that are given; without one nothing is chosen. Runs that some process works on stay.

exit codes: 0, 1 where something could not be removed, 2 for what cannot be understood
"""
SECONDS = {"h": 3600, "d": 86400, "w": 604800}


@dataclass
class Asked:
    """What the command line says."""

    outputs: Path = Path("outputs")
    older_than: float | None = None
    """Seconds."""
    sweep: Path | None = None
    not_best: bool = False
    yes: bool = False


def clean(words: Sequence[str]) -> int:
    """Remove what was asked for, or say what would be removed; return the exit code."""
    if {"-h", "--help"} & set(words):
        sys.stdout.write(folded(USAGE))
        return 0
    try:
        asked = read(words)
        if asked.older_than is None and asked.sweep is None and not asked.not_best:
            raise ValueError(
                "clean needs a condition: --older-than 30d, --sweep NAME or --not-best. It removes nothing without --yes."
            )
    except ValueError as error:
        return complain(str(error), USAGE_CODE)
    from dpo_lab.disk_use import kept_below, removal

    kept = kept_below(asked.outputs)
    found = removal(kept, chosen(kept, asked))
    tell(found, asked)
    return remove(found) if asked.yes else 0


def read(words: Sequence[str]) -> Asked:
    """Return what words ask for.

    Raises:
        ValueError: for a word that means nothing here.
    """
    asked, rest, places = Asked(), list(words), list[str]()
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in ("--older-than", "--sweep"):
            if not equals and not rest:
                raise ValueError(f"{name} needs a value. Write {name} {'30d' if name == '--older-than' else 'NAME'}")
            value = value if equals else rest.pop(0)
            if name == "--sweep":
                asked.sweep = Path(value)
            elif match := re.fullmatch(r"(\d+(?:\.\d+)?)([hdw])", value):
                asked.older_than = float(match[1]) * SECONDS[match[2]]
            else:
                raise ValueError(f"--older-than {value} is not a time. Write hours, days or weeks: 12h, 30d, 8w.")
        elif word in ("--not-best", "--yes"):
            asked.not_best, asked.yes = asked.not_best or word == "--not-best", asked.yes or word == "--yes"
        elif word.startswith("-"):
            raise ValueError(f"{word} is not an option of clean. Valid: --older-than, --sweep, --not-best, --yes.")
        else:
            places.append(word)
    if len(places) > 1:
        raise ValueError(f"{' '.join(places)}: clean takes one outputs directory. A sweep is named by --sweep NAME")
    asked.outputs = Path(places[0] if places else "outputs")
    if not asked.outputs.is_dir():
        raise ValueError(f"{asked.outputs} is not a directory (in {Path.cwd()}). Write dpo-lab clean DIR --older-than 30d")
    if asked.sweep is not None:
        asked.sweep = sweep_at(asked.outputs, asked.sweep)
    return asked


def sweep_at(outputs: Path, named: Path) -> Path:
    """Return the directory of a sweep that was named.

    Raises:
        ValueError: if there is none.
    """
    from dpo_lab.comparison.jobs import plan_in

    found = [place for place in (outputs / "sweep" / named, named) if plan_in(place)]
    if not found:
        known = ", ".join(sorted(path.name for path in (outputs / "sweep").glob("*") if plan_in(path)))
        there = f"Known: {known}." if known else "It has no sweeps."
        raise ValueError(f"--sweep {named}: {outputs} has no such sweep. {there}")
    return found[0]


def chosen(kept: "Sequence[Kept]", asked: Asked) -> set[Path]:
    """Return the directories of the runs that meet all conditions, without those that some process works on."""
    from dpo_lab.artifacts import is_being_made
    from dpo_lab.comparison.best import standing
    from dpo_lab.comparison.files import best_of
    from dpo_lab.comparison.jobs import plan_in
    from dpo_lab.comparison.metric import metric_of
    from dpo_lab.comparison.runs import runs_of_sweep

    runs = {artifact.path.resolve(): artifact for artifact in kept if artifact.is_run}
    of_sweeps: set[Path] = set()
    best: set[Path] = set()
    for sweep in (path for path in sorted((asked.outputs / "sweep").glob("*")) if plan_in(path)):
        members = runs_of_sweep(sweep)
        if asked.sweep is None or sweep.resolve() == asked.sweep.resolve():
            of_sweeps |= {run.directory.resolve() for run in members if run.directory}
        plan = plan_in(sweep)
        metric = metric_of(members, plan.metric if plan else "")
        winner = best_of(standing(members, metric)) if metric else None
        best |= {winner.directory.resolve()} if winner and winner.directory else set()
        if asked.not_best and winner is None:  # nobody can say which of them to keep
            best |= {run.directory.resolve() for run in members if run.directory}
    found = set(runs)
    if asked.sweep is not None or asked.not_best:
        found &= of_sweeps
    if asked.not_best:
        found -= best
    if (limit := asked.older_than) is not None:
        found = {path for path in found if time.time() - runs[path].written >= limit}
    return {runs[path].path for path in found if not is_being_made(path)}


def tell(found: "Removal", asked: Asked) -> None:
    """Say what goes, what stays although it was chosen, and how much room that gives."""
    from dpo_lab.amounts import bytes_text, count_of

    for artifact in found.gone:
        sys.stdout.write(f"{'remove' if asked.yes else 'would remove'} {artifact.path}  {bytes_text(artifact.bytes)}\n")
    for path, child in found.needed.items():
        sys.stdout.write(f"stays {path}: {child} is made from it\n")
    for run in dict.fromkeys(found.awaited.values()):
        waiting = sum(unfinished == run for unfinished in found.awaited.values())
        stay, them = ("stays", "it") if waiting == 1 else ("stay", "them")
        sys.stdout.write(
            f"{count_of(waiting, 'part')} {stay}: {run} is unfinished and may read {them}. {to_end(run, asked.outputs)}\n"
        )
    runs = sum(artifact.is_run for artifact in found.gone)
    parts = count_of(len(found.gone) - runs, "part")
    sys.stdout.write(f"{count_of(runs, 'run')} and {parts} that only they are made from: {bytes_text(found.bytes)}\n")
    if found.gone and not asked.yes:
        sys.stdout.write("nothing was removed; add --yes to remove it\n")


def to_end(run: Path, outputs: Path) -> str:
    """Return what to type to finish an unfinished run, or to remove it."""
    import json
    import shlex

    from dpo_lab.run_directory import CALL

    alone = f"remove the run: rm -r {shlex.quote(str(run))}"
    try:
        call = json.loads((run / CALL).read_text(encoding="utf-8"))
        return f"To finish it: cd {shlex.quote(call['cwd'])} && {call['command']}. Or {alone}"
    except (OSError, ValueError, KeyError, TypeError):
        return alone[0].upper() + alone[1:]


def remove(found: "Removal") -> int:
    """Remove what can go, runs first, so that a stop never leaves a run without its parts; return the exit code."""
    for artifact in found.gone:
        try:
            shutil.rmtree(artifact.path)
            (artifact.path.parent / f".{artifact.path.name}.lock").unlink(missing_ok=True)
        except OSError as error:
            return complain(f"{artifact.path} cannot be removed ({error.strerror}); what stands above it is gone.", ERROR)
    return 0
