"""The figures of a run in words and tables: did it work, round by round, and where the time went."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpo_lab.figures import EVALUATION, Figure
from dpo_lab.plain_data import leaves
from dpo_lab.report.health import Found, in_verdict
from dpo_lab.report.rounds import Value, rows_by_round

Summary = Mapping[str, Any]

OF_A_ROUND = re.compile(r"(?P<name>.+)/round_(?P<number>\d+)")


@dataclass(frozen=True)
class Card:
    """One result, large."""

    title: str
    value: str
    details: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """A value of a table, with its 95 % interval if it has one."""

    value: str
    interval: str = ""


@dataclass(frozen=True)
class RoundsTable:
    """Figures by round."""

    numbers: list[int]
    """Of the rounds."""
    rows: list[tuple[str, Cell, list[Cell]]]
    """Each figure in words, the model before training, the rounds."""


def number(value: object) -> str:
    """Return a value as a table shows it: three digits where more say nothing.

    >>> [number(each) for each in (0.97234, 5.0146, 36.328, 1234.5, 600, 3e-7, None, "cosine", [1, 2])]
    ['0.972', '5.01', '36.3', '1234', '600', '3e-07', 'null', 'cosine', '[1, 2]']
    """
    if isinstance(value, float):
        return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def exact(value: object) -> str:
    """Return a value as the configuration or summary.json holds it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def figures_in(run: Mapping[str, Any]) -> Sequence[Figure]:
    """Return the figures that run.json names; those of the project's own evaluations where it names none."""
    return [Figure(**figure) for figure in run.get("figures") or ()] or EVALUATION


def verdict(
    summary: Summary,
    rounds: Sequence[Mapping[str, Any]] = (),
    figures: Sequence[Figure] = EVALUATION,
    findings: Sequence[Found] = (),
) -> str:
    """Return whether the run did what it is for, in one sentence, and one more if something is wrong with it.

    What the evaluation noted comes before any figure.

    Args:
        rounds: of the run.
        figures: that the evaluation names.
        findings: about its health, the most serious of a round first.
    """
    return " ".join(each for each in (_outcome(summary, figures), in_verdict(findings, len(rounds))) if each)


def _outcome(summary: Summary, figures: Sequence[Figure]) -> str:
    if not summary:
        return "This run has no figures: it has not finished."
    if note := summary.get("eval/note"):
        return f"Cannot tell. {note[0].upper()}{note[1:]}."
    known = [figure for figure in figures if figure.headline and figure.keys[0] in summary]
    for figure in known:
        if not figure.fact:
            continue
        value, low, high = (summary.get(key) for key in (figure.name, f"{figure.name}/low", f"{figure.name}/high"))
        said = figure.fact.format(_percent(value or 0.0))
        if low is None or high is None:
            tied = ": all prompts tied" if figure.all_tied(value or 0.0, low) else ""
            return f"{said[0].upper()}{said[1:]}{tied}."
        share = "Better" if low > 0.5 else "Worse" if high < 0.5 else ""
        outcome = f"{share} than {figure.against}" if share else "No clear difference"
        return f"{outcome}: {said} (95\N{NO-BREAK SPACE}% interval {_percent(low)} to {_percent(high)})."
    if not known:
        return "Nothing held out was evaluated, so these figures cannot say whether the run worked."
    figure = min(known, key=lambda figure: not figure.main)
    was = f", before {number(summary[f'{figure.name}/before'])}" if f"{figure.name}/before" in summary else ""
    title = figure.title[0].upper() + figure.title[1:]
    return f"{title}: {number(summary[figure.keys[0]])}{was}. No figure is tested: judge for yourself what that means."


def cards(summary: Summary, figures: Sequence[Figure] = EVALUATION) -> list[Card]:
    """Return the results: every headline figure that the summary has."""
    shown = []
    for figure in figures:
        if not figure.headline or figure.keys[0] not in summary:
            continue
        details = []
        if f"{figure.name}/before" in summary:
            details.append(f"before {number(summary[f'{figure.name}/before'])}")
        if f"{figure.name}/low" in summary:
            low, high = summary[f"{figure.name}/low"], summary.get(f"{figure.name}/high")
            details.append(f"95 % interval {number(low)} to {number(high)}")
        elif figure.all_tied(summary[figure.keys[0]], None):
            details.append("all prompts tied")
        if figure.detail:
            details.append(figure.detail)
        shown.append(Card(figure.title, number(summary[figure.keys[0]]), tuple(details)))
    return shown


def rounds_table(rounds: list[dict[str, Any]], summary: Summary, figures: Sequence[Figure] = EVALUATION) -> RoundsTable | None:
    """Return every figure that some round has, from run.json and from the summary's `.../round_N`; None without rounds."""
    by_round = rows_by_round(figures, summary)
    shown = {row.figure.name for row in by_round}
    other_figures: dict[str, dict[int, Any]] = {}
    for key, value in summary.items():
        if (match := OF_A_ROUND.fullmatch(key)) and match["name"] not in shown:
            other_figures.setdefault(match["name"], {})[int(match["number"])] = value
    for one_round in rounds:
        for name, value in one_round.items():
            if name != "number" and name not in shown and not isinstance(value, dict | list):
                other_figures.setdefault(name, {})[int(one_round["number"])] = value
    numbers = sorted(
        {number for row in by_round for number in row.rounds} | {each for values in other_figures.values() for each in values}
    )
    titles = {figure.name: figure.title for figure in figures}
    rows = [
        (row.figure.title, _cell(row.before), [_cell(row.rounds.get(each), row.figure) for each in numbers]) for row in by_round
    ] + [
        (titles.get(name, name), Cell(""), [Cell(number(values.get(each, ""))) for each in numbers])
        for name, values in other_figures.items()
    ]
    return RoundsTable(numbers, rows) if rows else None


def _cell(value: Value | None, figure: Figure | None = None) -> Cell:
    if value is None:
        return Cell("")
    if figure and figure.all_tied(value.value, value.low):
        return Cell(number(float(value.value)), "all tied")
    interval = f"{number(value.low)} to {number(value.high)}" if value.low is not None and value.high is not None else ""
    return Cell(number(float(value.value)), interval)


def times(summary: Summary) -> list[tuple[str, str, float]]:
    """Return where the time went: part, seconds, share in per cent of the longest; the total last."""
    seconds = {key.removeprefix("seconds/"): float(value) for key, value in summary.items() if key.startswith("seconds/")}
    longest = max(seconds.values(), default=0.0) or 1.0
    parts = sorted((name for name in seconds if name != "total"), key=lambda name: -seconds[name])
    ordered = [*parts, *(["total"] if "total" in seconds else [])]
    return [(name, f"{number(seconds[name])} s", round(100 * seconds[name] / longest, 1)) for name in ordered]


def flattened(value: object) -> dict[str, str]:
    """Return nested plain data as dotted keys.

    >>> flattened({"loss": {"beta": 0.1}, "tags": ["a"], "gpu": None})
    {'loss.beta': '0.1', 'tags': '["a"]', 'gpu': 'null'}
    """
    return {key: exact(leaf) for key, leaf in leaves(value, empty=True)}


def _percent(share: float) -> str:
    """Return a share as it would be rounded to two digits elsewhere: .525 is .53 and 53 %."""
    return f"{100 * float(f'{share:.2f}'):.0f}\N{NO-BREAK SPACE}%" if math.isfinite(share) else "an unknown share"
