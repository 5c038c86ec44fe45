"""The lines that a run prints: one per part as it ends, then the figures, samples and what to do next."""

from collections.abc import Mapping, Sequence
from typing import Any

from dpo_lab.amounts import count_of, short, weights_text
from dpo_lab.figures import Figure
from dpo_lab.ranking.pairing.base import left_out_text

Facts = Mapping[str, Any]


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


def pretrain_line(made_in: float | None, path: str) -> str:
    """Return the line of the base model; `made_in` is None when it was there already."""
    state = f"ready in {seconds(made_in)}" if made_in is not None else "was there already"
    return f"1 pretrain   {state:28}{path}"


def round_line(number: int, rounds: int, pairs: str, facts: Facts) -> str:
    """Return the line of a finished round; `pairs` says where its pairs came from."""
    dpo = f"DPO {count_of(facts['steps'], 'step')} {seconds(facts['seconds/dpo'])}"
    took = facts["seconds/reference"]  # 0 where no pass over the pairs is made
    reference = f" | reference {seconds(took)}" if took else ""
    loss = f"loss {short(facts['loss/first'])} -> {short(facts['loss/last'])}"
    return f"{number + 1} round {number}/{rounds}  {pairs}{reference} | {dpo}  {loss}"


def made_pairs_text(sampled: Facts, sampled_in: float, ranked: Facts) -> str:
    """Return how the pairs of a round were made."""
    answers = sampled["answers"] // sampled["prompts"]
    pairs = count_of(ranked["pairs"], "pair")
    failed = f", the ranker failed for {count_of(ranked['failed'], 'prompt')}" if ranked.get("failed") else ""
    left_out = f" ({text})" if (text := left_out_text(ranked.get("left_out", {}))) else ""
    return f"{sampled['prompts']} prompts x {answers} answers {seconds(sampled_in)} | ranked{failed} | {pairs}{left_out}"


def table(title: str, rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """Return a table with the columns before and after."""
    width = max(31, len(title) + 3, *(len(name) + 4 for name, _, _ in rows))
    return [f"{title:{width}}{'before':12}after", *(f"  {name:{width - 2}}{before:12}{after}" for name, before, after in rows)]


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
        return value
    low, high = (_rounded(summary[f"{figure.name}/{end}"], figure.digits) for end in ("low", "high"))
    return f"{value} [{low}, {high}]"


def _rounded(value: float, digits: int) -> str:
    """Return a figure as the end screen shows it: with one digit, a zero before the point is kept.

    >>> _rounded(0.957, 2), _rounded(0.4, 1)
    ('.96', '0.4')
    """
    return short(value, digits) if digits > 1 else f"{value:.{digits}f}"


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
