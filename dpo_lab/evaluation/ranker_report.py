"""How a ranker's scores agree with what people prefer, and what else they follow: place and length."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean
from typing import Any

from dpo_lab.amounts import count_of
from dpo_lab.evaluation.ranking_shape import RankingShape
from dpo_lab.evaluation.statistics import Observed, share_of
from dpo_lab.records import Candidates

Preference = Callable[[Candidates, int, int], float | None]
"""The ranker's probability that one answer of a set beats another (`Ranker.preference`); None where it gives none."""
LEAST = 1e-6
"""Least probability of what people prefer that log-loss counts: a ranker that is quite sure and wrong loses 13.8 nats."""


def ranker_report(candidates: Iterable[Candidates], preference: Preference) -> dict[str, Any]:
    """Return the figures of ranked candidates, of which some say what people prefer; one set is held at a time.

    - `accuracy`: share of comparisons, a preferred answer against each other of its prompt, in which the preferred one has the
      higher score; equal scores count half (`equal_scores`). `accuracy/low` and `/high`: the 95 % interval of `share_of`, whose
      unit is the prompt, since comparisons of one answer with several others are right or wrong together; None of one prompt.
    - `log_loss`: mean of -log of the ranker's probability for what people prefer, in nats; a coin has 0.693.
    - `first_place`: share of pairs shown that the answer in the first place wins, in both orders, 0.5 without a bias;
      `first_place_nats`: the mean log-odds for it. `order_consistency`: share of pairs with the same winner in both orders.
    - `length_correlation`: Spearman's correlation of score and characters within a prompt, the mean over the prompts where it
      is defined. `longer/ranker`, `longer/people`: share of comparisons in which each prefers the longer answer.
    - What a ranking looks like without people: `ranking_shape.RankingShape.figures`.

    A figure that cannot be told is None: of log-loss, where the ranker gives no probability; of places, where it compared no
    pairs, or showed each in one order.

    Args:
        candidates: with scores; `pairwise` and `preferred` as far as there are any.
        preference: the ranker's.
    """
    counts = _Counts()
    for ranking in candidates:
        counts.prompts += 1
        _add_comparisons(counts, ranking, preference)
        _add_places(counts, ranking)
        counts.shape.add(ranking)
        lengths = [float(len(text)) for text in ranking.responses]
        if (correlation := spearman(ranking.scores, lengths)) is not None:
            counts.correlations.append(correlation)
    accuracy = share_of(Observed(counts.right, counts.of_prompt)) if counts.right else None
    return {
        "prompts": counts.prompts,
        "labelled": counts.labelled,
        "people_tie": counts.people_tie,
        "comparisons": len(counts.right),
        "accuracy": accuracy.value if accuracy else None,
        "accuracy/low": accuracy.low if accuracy else None,
        "accuracy/high": accuracy.high if accuracy else None,
        "accuracy/prompts": accuracy.prompts if accuracy else 0,
        "equal_scores": counts.right.count(0.5),
        "log_loss": _mean(counts.losses),
        **_places(counts),
        "length_correlation": _mean(counts.correlations),
        "length_correlation/prompts": len(counts.correlations),
        "longer/ranker": _mean(counts.longer_ranker),
        "longer/people": _mean(counts.longer_people),
        **counts.shape.figures(),
    }


@dataclass
class _Counts:
    """What is counted while the sets pass; a few numbers for each comparison."""

    prompts: int = 0
    labelled: int = 0
    people_tie: int = 0
    right: list[float] = field(default_factory=list)
    of_prompt: list[str] = field(default_factory=list)
    """The id of the prompt of each entry of `right`."""
    shape: RankingShape = field(default_factory=RankingShape)
    losses: list[float] = field(default_factory=list)
    first_wins: list[float] = field(default_factory=list)
    first_odds: list[float] = field(default_factory=list)
    consistent: list[float] = field(default_factory=list)
    two_orders: bool = False
    """Whether the second order was seen to be more than the first one with its sign changed."""
    correlations: list[float] = field(default_factory=list)
    longer_ranker: list[float] = field(default_factory=list)
    longer_people: list[float] = field(default_factory=list)


def _add_comparisons(counts: _Counts, ranking: Candidates, preference: Preference) -> None:
    counts.labelled += bool(ranking.preferred)
    if len(ranking.preferred) == len(ranking.responses):
        counts.people_tie += 1
        return
    for better in ranking.preferred:
        for worse in range(len(ranking.responses)):
            if worse in ranking.preferred:
                continue
            gap = ranking.scores[better] - ranking.scores[worse]
            longer = len(ranking.responses[better]) - len(ranking.responses[worse])
            counts.right.append(_half_if_equal(gap))
            counts.of_prompt.append(ranking.prompt.id)
            probability = preference(ranking, better, worse)
            if probability is not None:
                counts.losses.append(-math.log(max(probability, LEAST)))
            if longer:
                counts.longer_people.append(_half_if_equal(longer))
                counts.longer_ranker.append(_half_if_equal(gap * longer))


def _add_places(found: _Counts, each: Candidates) -> None:
    for one, other in combinations(range(len(each.pairwise)), 2):
        first, second = each.pairwise[one][other], each.pairwise[other][one]
        found.two_orders |= first != -second
        found.first_wins += [_half_if_equal(first), _half_if_equal(second)]
        found.first_odds += [first, second]
        found.consistent.append(float(first * second < 0))


def _places(found: _Counts) -> dict[str, float | None]:
    known = found.two_orders
    return {
        "first_place": _mean(found.first_wins) if known else None,
        "first_place_nats": _mean(found.first_odds) if known else None,
        "order_consistency": _mean(found.consistent) if known else None,
    }


def spearman(values: Sequence[float], others: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation, None where either side is constant; equal values share their mean rank.

    >>> spearman([1.0, 2.0, 9.0], [3.0, 5.0, 4.0]), spearman([1.0, 1.0], [1.0, 2.0])
    (0.5, None)
    """
    first, second = _ranks(values), _ranks(others)
    mean = (len(first) + 1) / 2
    products = sum((a - mean) * (b - mean) for a, b in zip(first, second, strict=True))
    spread = math.sqrt(sum((a - mean) ** 2 for a in first) * sum((b - mean) ** 2 for b in second))
    return products / spread if spread else None


def lines_of(report: dict[str, Any]) -> list[str]:
    """Return the figures for people, at most 80 columns wide."""
    labelled, ties = report["labelled"], report["people_tie"]
    tied = f", and call {ties} a tie" if ties else ""
    lines = [f"people prefer an answer to {count_of(labelled - ties, 'prompt')}{tied}"] if labelled else []
    if report["accuracy"] is not None:
        equal = f", {count_of(report['equal_scores'], 'equal score')}" if report["equal_scores"] else ""
        low, high = report["accuracy/low"], report["accuracy/high"]
        interval = "no interval " if low is None else f"[{low:.3f}, {high:.3f}] "
        lines.append(
            _line("accuracy", report["accuracy"], f"{interval}of {count_of(report['comparisons'], 'comparison')}{equal}")
        )
    if report["log_loss"] is not None:
        lines.append(_line("log-loss", report["log_loss"], "nats; a coin has 0.693"))
    if report["first_place"] is not None:
        lines.append(
            _line("first place", report["first_place"], f"of pairs shown, {report['first_place_nats']:+.3f} nats for it")
        )
        lines.append(_line("both orders", report["order_consistency"], "of pairs have the same winner in both orders"))
    if report["length_correlation"] is not None:
        of = count_of(report["length_correlation/prompts"], "prompt")
        lines.append(_line("length", report["length_correlation"], f"Spearman with the score, mean of {of}"))
    if report["longer/people"] is not None:
        lines.append(_line("longer wins", report["longer/ranker"], f"of comparisons; {report['longer/people']:.3f} for people"))
    if report["cycles"] is not None:
        lines.append(_line("cycles", report["cycles"], f"of {count_of(report['triples'], 'triple')} beat each other in a circle"))
    if report["margin"] is not None:
        lines.append(_line("margin", report["margin"], f"best minus worst, {report['margin/second']:.3f} to the second"))
    return lines


def _line(name: str, value: float, meaning: str) -> str:
    return f"  {name:12} {value:6.3f}  {meaning}"


def _half_if_equal(difference: float) -> float:
    """Return 1 for more, 0 for less, and a half for none."""
    return 0.5 + 0.5 * (difference > 0) - 0.5 * (difference < 0)


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _ranks(values: Sequence[float]) -> list[float]:
    """Return ranks from 1; equal values share the mean of theirs."""
    return [sum(other < value for other in values) + (1 + sum(other == value for other in values)) / 2 for value in values]
