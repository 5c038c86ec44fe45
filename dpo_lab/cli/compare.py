"""`dpo-lab compare RUN RUN ...`: runs beside one another, on the screen and on one page.

Exit codes: 0 the page is written, 2 there is nothing to compare.
"""

import glob
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from dpo_lab.cli.session import USAGE as USAGE_CODE
from dpo_lab.cli.session import complain, show
from dpo_lab.folding import folded

USAGE = """usage: dpo-lab compare RUN RUN ... [--by FIGURE] [--to DIR]

compare runs figure by figure, say which can be told apart, and write one page with table, curves, trade-offs and answers

  RUN           a run's directory, or a sweep's: outputs/train/NAME, outputs/sweep/NAME, or a pattern: 'outputs/train/*dpo*'
  --by FIGURE   the figure of summary.json that sorts the runs; the main one if it is left out
  --to DIR      where index.html and summary.csv go; if it is left out outputs/compare/NAME, or for one sweep its own directory

exit codes: 0 the page is written, 2 there is nothing to compare
"""
WITH_VALUE = ("--by", "--to")


def compare(words: Sequence[str]) -> int:
    """Compare runs that are on disk; return the exit code."""
    if {"-h", "--help"} & set(words):
        sys.stdout.write(folded(USAGE))
        return 0
    try:
        named, options = read(words)
        places = places_of(named)
        return write(places, options, words)
    except ValueError as error:
        return complain(str(error), USAGE_CODE)


def read(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the places and the options of a command line.

    Raises:
        ValueError: for an option that does not exist or lacks its value, or without a place.
    """
    named: list[str] = []
    options: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in WITH_VALUE:
            if not equals and not rest:
                raise ValueError(
                    f"{name} needs a value. Write dpo-lab compare RUN RUN {name} {'DIR' if name == '--to' else 'gold/after'}"
                )
            options[name] = value if equals else rest.pop(0)
        elif word.startswith("-"):
            raise ValueError(f"{word} is not an option of compare. Valid: {', '.join(WITH_VALUE)}.")
        else:
            named.append(word)
    if not named:
        raise ValueError(
            "compare needs runs. Write dpo-lab compare outputs/train/A outputs/train/B, or the directory of a sweep."
        )
    return named, options


def places_of(named: Sequence[str]) -> list[Path]:
    """Return the directories that words mean, patterns opened.

    Raises:
        ValueError: for one that holds neither a run nor a sweep.
    """
    from dpo_lab.comparison.jobs import plan_in
    from dpo_lab.run_directory import RunDirectory

    places: list[Path] = []
    for word in named:
        found = [Path(word)] if Path(word).is_dir() else [Path(path) for path in sorted(glob.glob(word)) if Path(path).is_dir()]
        if not found:
            raise ValueError(
                f"{word}: this directory does not exist (in {Path.cwd()}). Give directories of runs: outputs/train/NAME."
            )
        known = [place for place in found if RunDirectory(place).is_run or plan_in(place)]
        if not known:
            raise ValueError(
                f"{word} holds neither a run nor a sweep. Give directories such as outputs/train/NAME or outputs/sweep/NAME."
            )
        places += known
    return places


def write(places: Sequence[Path], options: dict[str, str], words: Sequence[str]) -> int:
    """Write the page and the tables, and say what they say; return the exit code.

    Raises:
        ValueError: for fewer than two runs, or a figure that no run has.
    """
    from dpo_lab.comparison.conclude import conclude, conclude_runs
    from dpo_lab.comparison.jobs import plan_in
    from dpo_lab.comparison.runs import runs_at

    if len(places) == 1 and plan_in(places[0]) and not options:
        ended = conclude(places[0])
    else:
        runs = runs_at(places)
        if len(runs) < 2:
            raise ValueError(
                f"{places[0]} is one run. A comparison takes two or more: dpo-lab compare outputs/train/A outputs/train/B"
            )
        content = "\n".join(sorted(str(run.directory.resolve()) for run in runs if run.directory))
        name = f"{len(runs)}-runs-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
        outputs = places[0].resolve().parents[1]
        here = Path.cwd()
        root = outputs.relative_to(here) if outputs.is_relative_to(here) else outputs
        ended = conclude_runs(runs, Path(options.get("--to") or root / "compare" / name), by=options.get("--by", ""))
    show(ended.lines[1:])
    return 0
