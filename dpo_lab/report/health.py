"""Findings about a run in words: on the screen, on the page and in its verdict."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from dpo_lab.folding import width

Found = Mapping[str, Any]
"""Plain data of a finding: `name`, `round`, `said`, `remedy`."""
WIDTH = 80


def finding_text(finding: Found) -> str:
    """Return a finding as one line.

    >>> finding_text({"name": "length_drift", "said": "answers have become longer", "remedy": "loss=r_dpo"})
    'length drift: answers have become longer; try loss=r_dpo'
    """
    return f"{finding['name'].replace('_', ' ')}: {finding['said']}; try {finding['remedy']}"


def warning_of(finding: Found) -> tuple[str, str]:
    """Return title and text of the warning that loggers pass on.

    >>> warning_of({"name": "length_drift", "round": 2, "said": "answers have become longer", "remedy": "loss=r_dpo"})
    ('length drift in round 2', 'answers have become longer; try loss=r_dpo')
    """
    return f"{finding['name'].replace('_', ' ')} in round {finding['round']}", f"{finding['said']}; try {finding['remedy']}"


def health_lines(findings: Sequence[Found], rounds: int) -> list[str]:
    """Return the findings for the end screen, at most 80 columns wide and within the terminal; nothing without any.

    Args:
        rounds: of the run.
    """
    lines, columns = [], min(WIDTH, width())
    for finding in findings:
        where = f" (round {finding['round']})" if rounds > 1 else ""
        said = f"{finding['name'].replace('_', ' ')}{where}: {finding['said']}"
        for text, indent in ((said, "  "), (f"try {finding['remedy']}", "    ")):
            lines += textwrap.wrap(text, columns, initial_indent=indent, subsequent_indent="    ", break_long_words=False)
    return ["health", *lines] if lines else []


def in_verdict(findings: Sequence[Found], rounds: int) -> str:
    """Return the sentence of a verdict about the most serious finding of the last round that has one; empty without any.

    >>> in_verdict([{"name": "saturation", "round": 1, "said": "the loss is 0", "remedy": "fewer trainer.epochs"}], 1)
    'But the loss is 0: try fewer trainer.epochs.'
    """
    if not findings:
        return ""
    last = max(finding["round"] for finding in findings)
    first = next(finding for finding in findings if finding["round"] == last)
    where = f"in round {last} " if rounds > 1 else ""
    more = len(findings) - 1
    also = f" {more} more {'finding' if more == 1 else 'findings'} under health." if more else ""
    return f"But {where}{first['said']}: try {first['remedy']}.{also}"
