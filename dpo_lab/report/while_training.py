"""What was measured of policies while they were trained, in words and in figures: what it cost, and where each was best."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dpo_lab.amounts import count_of, short
from dpo_lab.figures import Figure
from dpo_lab.report.screen import seconds

Times = Sequence[Mapping[str, Any]]
"""Rows of evaluations.jsonl of one training: `step`, `seconds`, `figures`."""


def best_of(figures: Iterable[Figure], times: Times) -> dict[str, float]:
    """Return the best value of each headline figure and its step in the round; of equal ones the first.

    >>> loss = Figure(name="eval/loss", title="loss", better="min")
    >>> best_of([loss], [{"step": 4, "figures": {"eval/loss": 0.5}}, {"step": 8, "figures": {"eval/loss": 0.75}}])
    {'eval/loss/best': 0.5, 'eval/loss/best_step': 4}
    """
    found: dict[str, float] = {}
    for figure in figures:
        known = [(time["figures"][figure.name], time["step"]) for time in times if figure.name in time["figures"]]
        if figure.headline and figure.better and known:
            sign = 1 if figure.better == "min" else -1
            value, step = min(known, key=lambda one: (sign * one[0], one[1]))
            found |= {f"{figure.name}/best": value, f"{figure.name}/best_step": step}
    return found


def round_note(figures: Sequence[Figure], times: Times, steps: int) -> str:
    """Return what the screen says of one round: how often, how long, and where the main figure was best.

    Args:
        steps: of the round.
    """
    took = seconds(sum(time["seconds"] for time in times))
    said = f"measured {count_of(len(times), 'time')} while training, {took}"
    main = min((figure for figure in figures if figure.better), key=lambda each: not each.main, default=None)
    best = best_of([main], times) if main else {}
    if not main or not best:
        return said
    value, step = short(best[f"{main.name}/best"], main.digits), int(best[f"{main.name}/best_step"])
    return f"{said}; best {main.row or main.title} {value} after step {step} of {steps}"


def cost_line(summary: Mapping[str, Any], num_times: int) -> str:
    """Return what measuring while training has cost, as a share of the seconds of all parts of a run.

    >>> cost_line({"seconds/held_out": 12.0, "seconds/dpo": 28.0, "seconds/total": 41.0}, 6)
    'measured while training: 6 times, 12 s, 30 % of the run'
    """
    parts = {name: value for name, value in summary.items() if name.startswith("seconds/") and name != "seconds/total"}
    took = summary["seconds/held_out"]
    share = took / (sum(parts.values()) or 1.0)
    return f"measured while training: {count_of(num_times, 'time')}, {seconds(took)}, {100 * share:.0f} % of the run"
