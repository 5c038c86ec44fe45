"""A finished run that is asked for again: shown, and sent to loggers that have not got it."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dpo_lab.artifacts import Artifact
from dpo_lab.figures import better_of
from dpo_lab.loggers.base import RunIdentity, RunLogger
from dpo_lab.loggers.recorder import send_recorded
from dpo_lab.progress import say
from dpo_lab.report.figures import figures_in
from dpo_lab.report.health import warning_of
from dpo_lab.run_directory import RunDirectory

PLACES = ("1 pretrain", "model ", "report ", "next ", "     ")
"""How the lines of the end screen begin that name directories."""


def show_finished(run: Artifact, identity: RunIdentity, loggers: Mapping[str, RunLogger]) -> dict[str, Any]:
    """Print the end screen of a finished run, send its figures to loggers that have not got them, and say what was done."""
    recorded = RunDirectory(run.path)
    summary, about = recorded.summary(), recorded.run()
    identity = replace(identity, better=better_of(figures_in(about)))
    warnings = [warning_of(finding) for finding in about.get("findings", ())]
    sent = send_recorded(identity, loggers, summary, about.get("samples", ()), warnings, about.get("lineage", ()))
    say(moved(recorded.screen(), recorded.config()["outputs"], str(run.path.parent.parent)))
    what = f"its figures were sent to {', '.join(sent)}, and nothing was trained" if sent else "nothing was done"
    say(f"this run was finished before, in {run.seconds:.0f} s; {what}. force=true runs it again.")
    return summary


def moved(screen: str, before: str, now: str) -> str:
    """Return an end screen whose lines about places name where the outputs are now.

    >>> print(moved("report outputs/train/a/report.html\\n  after: in outputs/train", "outputs", "copy"))
    report copy/train/a/report.html
      after: in outputs/train
    >>> print(moved("next   python train.py paths.outputs=/a seed=1", "/a", "/b"))
    next   python train.py paths.outputs=/b seed=1
    """
    place = re.compile(
        rf"(?<![\w/.-]){re.escape(before)}(?=/(?:model|policy|train)/)|(?<=paths\.outputs=){re.escape(before)}(?=['\s]|$)"
    )
    lines = (place.sub(lambda match: now, line) if line.startswith(PLACES) else line for line in screen.splitlines())
    return "\n".join(lines)
