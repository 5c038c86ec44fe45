"""The lines that a run prints: some per part as it ends, then the figures, samples and what to do next."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from dpo_lab.amounts import count_of, short, weights_text
from dpo_lab.figures import Figure
from dpo_lab.folding import width
from dpo_lab.ranking.pairing.base import left_out_text

Facts = Mapping[str, Any]
WIDTH = 80
"""Columns of the lines of a round."""
INDENT = " " * 13
"""Of what follows the first line of a round."""


def seconds(value: float) -> str:
    """Return a duration: `< 1 s`, `21 s`, `3 min 20 s`.

    >>> seconds(0.2), seconds(21.4), seconds(200)
    ('< 1 s', '21 s', '3 min 20 s')
    """
    whole = round(value)
    if whole < 1:
        return "< 1 s"
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60} s"


def header(name: str, choices: Sequence[tuple[str, str]], parameters: int | None, threads: int) -> str:
    """Return the first line: the run's name and what it is made of, the model first, with its size if that is known."""
    shown = [f"{kind} {choice}" for kind, choice in choices]
    if parameters is not None:
        shown[0] += f" ({weights_text(parameters)})"
    return "  ".join([f"dpo-lab train  {name}   ", *shown, f"{threads} threads" if threads > 1 else "1 thread"])


def made_line(part: str, made_in: float | None, path: str) -> str:
    """Return the line of the base model or of a ranker that was trained; `made_in` is None when it was there already."""
    state = f"ready in {seconds(made_in)}" if made_in is not None else "was there already"
    return f"1 {part:10} {state:28}{path}"


def round_lines(number: int, rounds: int, pairs: str, facts: Facts, notes: Sequence[str] = ()) -> list[str]:
    """Return the lines of a finished round, at most 80 columns wide.

    Args:
        number: of the round, from 1.
        pairs: where its pairs came from, at most 65 characters.
        facts: of its policy.
        notes: what else is to be said of its pairs; long ones are broken.
    """
    took = facts["seconds/reference"]  # 0 where no pass over the pairs is made
    reference = f"reference {seconds(took)} | " if took else ""
    dpo = f"DPO {count_of(facts['steps'], 'step')} {seconds(facts['seconds/dpo'])}"
    loss = f"loss {short(facts['loss/first'])} -> {short(facts['loss/last'])}"
    first = f"{number + 1} round {number}/{rounds}"
    return [f"{first:11}  {pairs}", *indented(notes), f"{INDENT}{reference}{dpo}  {loss}"]


def indented(notes: Sequence[str], indent: str = INDENT) -> list[str]:
    """Return sentences that stand below a line, broken at 80 columns, or at the width of a narrower terminal."""
    wrapper = textwrap.TextWrapper(min(WIDTH, width()), initial_indent=indent, subsequent_indent=f"{indent}  ")
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return [line for note in notes for line in wrapper.wrap(note)]


def made_pairs_text(sampled: Facts, sampled_in: float, ranked: Facts) -> str:
    """Return how the pairs of a round were made."""
    answers = sampled["answers"] // sampled["prompts"]
    pairs = count_of(ranked["pairs"], ranked.get("noun", "pair"))
    by_ranker = "ranked | " if ranked.get("made_by", {}).get("ranker", True) else ""
    return f"{sampled['prompts']} prompts x {answers} answers {seconds(sampled_in)} | {by_ranker}{pairs}"


def pair_notes(facts: Facts) -> list[str]:
    """Return what a pairing left out, and which prompts it leaves without a pair; nothing if there are pairs of every prompt.

    >>> pair_notes({"prompts": 9, "failed": 1, "pairs": 6, "prompts_without_pair": 3, "left_out": {"ties": 2}})
    ['left out: 2 tied: equal scores prefer neither answer', 'without a pair: 3 of 9 prompts; the ranker failed for 1 of them']

    Args:
        facts: of an artifact `pairs`.
    """
    left_out = left_out_text(facts.get("left_out", {}))
    without, failed = facts.get("prompts_without_pair", 0), facts.get("failed", 0)
    of_them = f"; the ranker failed for {failed} of them" if failed else ""
    notes = [f"left out: {left_out}"] if left_out else []
    return [*notes, f"without a pair: {without} of {count_of(facts['prompts'], 'prompt')}{of_them}"] if without else notes


def table(title: str, rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """Return a table with the columns before and after."""
    first = max(31, len(title) + 3, *(len(name) + 4 for name, _, _ in rows))
    return [f"{title:{first}}{'before':12}after", *(f"  {name:{first - 2}}{before:12}{after}" for name, before, after in rows)]


def figures_table(heading: str, figures: Sequence[Figure], summary: Facts) -> list[str]:
    """Return the figures of a run that the screen shows."""
    shown = [figure for figure in figures if figure.headline and figure.keys[0] in summary]
    return table(heading, [(figure.row or figure.title, _before(figure, summary), _after(figure, summary)) for figure in shown])


def _before(figure: Figure, summary: Facts) -> str:
    if (value := summary.get(f"{figure.name}/before")) is not None:
        return _rounded(value, figure.digits)
    return "-" if figure.start is None else f"{figure.start:g}"


def _after(figure: Figure, summary: Facts) -> str:
    value = _rounded(summary[figure.keys[0]], figure.digits)
    if f"{figure.name}/low" not in summary:
        return f"{value} all tied" if figure.all_tied(summary[figure.keys[0]], None) else value
    low, high = (_rounded(summary[f"{figure.name}/{end}"], figure.digits) for end in ("low", "high"))
    return f"{value} [{low}, {high}]"


def _rounded(value: float, digits: int) -> str:
    """Return a figure as the end screen shows it: with one digit, a zero before the point is kept.

    >>> _rounded(0.957, 2), _rounded(0.4, 1), _rounded(-3e-8, 1)
    ('.96', '0.4', '0.0')
    """
    return short(value, digits) if digits > 1 else f"{value:z.{digits}f}"


def sample_line(prompt: str, before: str, after: str) -> str:
    """Return one prompt with an answer from before and one from after."""
    return f'"{_one_line(prompt)}"\n  before: {_one_line(before)}\n  after:  {_one_line(after)}'


def footer(model: str, report: str, commands: Sequence[str]) -> list[str]:
    """Return the last lines: where the trained model and the report are, and what to try next, a command to a line.

    >>> footer("outputs/policy/p", "r.html", ("a", "b"))
    ['model  outputs/policy/p', 'report r.html', 'next   a', '       b']
    """
    return [f"model  {model}", f"report {report}", *(f"{'' if at else 'next':6} {each}" for at, each in enumerate(commands))]


def _one_line(text: str, limit: int = 300) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= limit else joined[: limit - 3] + "..."
