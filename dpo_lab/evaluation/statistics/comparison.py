"""Models told apart, or not: every comparison of a family with its verdict and one sentence."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from dpo_lab.amounts import count_of
from dpo_lab.evaluation.statistics.observed import Observed
from dpo_lab.evaluation.statistics.paired import LEVEL, Difference, difference_of, holm
from dpo_lab.figures import Better

MANY = 1_000_000  # prompts: more than this tells nobody anything


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One pair of models in a family of comparisons."""

    one: str
    other: str
    better: Better | None
    """Whether the figure gets better by growing or by falling; None: neither."""
    difference: Difference
    """`one` minus `other`."""
    p_adjusted: float
    """By Holm, over the family."""
    family: int
    """How many comparisons were made at once."""
    unit: str = "prompt"

    @property
    def told_apart(self) -> bool:
        """Return whether the difference is more than chance, in view of the whole family."""
        return self.p_adjusted < LEVEL

    @property
    def winner(self) -> str | None:
        """Return the better model; None where they cannot be told apart, or nothing is better."""
        if not self.told_apart or self.better is None:
            return None
        return self.one if (self.difference.estimate.value > 0) == (self.better == "max") else self.other

    @property
    def more_prompts(self) -> int | None:
        """Return how many more prompts would tell the models apart, None if they are told apart or no number would."""
        return None if self.told_apart else self.difference.more_prompts(LEVEL / self.family)

    def sentence(self, digits: int = 2) -> str:
        """Return the verdict in words."""
        prompts = self.difference.estimate.prompts
        if self.told_apart:
            larger = self.one if self.difference.estimate.value > 0 else self.other
            first = self.winner or larger
            second = self.other if first == self.one else self.one
            verb = "is better than" if self.winner else "is higher than"
            return f"{first} {verb} {second} on these {count_of(prompts, self.unit)} ({self._shown(first, digits)})"
        many = f"these {prompts} {self.unit}s cannot" if prompts != 1 else f"one {self.unit} cannot"
        return f"{many} tell {self.one} and {self.other} apart ({self._shown(self.one, digits)}){self._what_would()}"

    def record(self) -> dict[str, Any]:
        """Return it as plain data, for report.json."""
        estimate = self.difference.estimate
        return {
            "one": self.one,
            "other": self.other,
            "difference": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
            "standard_error": estimate.standard_error,
            "prompts": estimate.prompts,
            "differing": self.difference.differing,
            "p": self.difference.p_value,
            "p_holm": self.p_adjusted,
            "family": self.family,
            "told_apart": self.told_apart,
            "winner": self.winner,
            "more_prompts": self.more_prompts,
            "why_no_interval": estimate.why_none or None,
            "sentence": self.sentence(),
        }

    def _shown(self, first: str, digits: int) -> str:
        """Return the difference of the first model minus the other one."""
        estimate = self.difference.estimate
        turned = estimate if first == self.one else estimate.turned()
        family = f"; {count_of(self.family, 'comparison')} at once" if self.family > 1 else ""
        why = f"; {estimate.why_none}" if estimate.why_none else ""
        return f"difference {turned.text(digits_for(turned.value, digits))}{why}{family}"

    def _what_would(self) -> str:
        more = self.more_prompts
        if more is None:
            return ""
        return f"; about {rounded(more)} more would" if more < MANY else f"; even {MANY:,} more would not"


def digits_for(value: float, digits: int) -> int:
    """Return how many digits show a number that is not 0 as one that is not 0: at least `digits`, at most 8.

    >>> [digits_for(value, 2) for value in (0.25, -0.006, 0.0004, -3e-7, 0.0, 1e-12)]
    [2, 2, 4, 7, 2, 2]
    """
    return next((most for most in range(digits, 9) if round(value, most) != 0), digits)


def compare(
    ours: Observed, theirs: Observed, one: str, other: str, *, better: Better | None = "max", unit: str = "prompt"
) -> Comparison:
    """Return what the prompts say about two models.

    >>> ours, theirs = (Observed([float(at % step == 0) for at in range(60)], range(60)) for step in (1, 2))
    >>> compare(ours, theirs, "A", "B").sentence()
    'A is better than B on these 60 prompts (difference .50 [.37, .63])'
    >>> compare(theirs, theirs, "A", "B").sentence()
    'these 60 prompts cannot tell A and B apart (difference .00; they differ on 0 prompts of 60; fewer than 6 cannot tell)'
    """
    return compare_all({one: ours, other: theirs}, better=better, unit=unit)[0]


def compare_all(
    observed: Mapping[str, Observed], *, against: str | None = None, better: Better | None = "max", unit: str = "prompt"
) -> list[Comparison]:
    """Return every pair of models, or one model against each other one, with Holm over all that are returned.

    Args:
        observed: by the model's name, each on the same prompts.
        against: the name of the one, such as the best of a sweep; None: all pairs.
        better: whether the figure gets better by growing or by falling; None: neither.
        unit: what the prompts of `observed` are called.

    Raises:
        ValueError: if two models were not observed on the same prompts.
    """
    pairs = list(combinations(observed, 2)) if against is None else [(against, name) for name in observed if name != against]
    differences = [difference_of(observed[one], observed[other]) for one, other in pairs]
    adjusted = holm([difference.p_value for difference in differences])
    return [
        Comparison(one=one, other=other, better=better, difference=difference, p_adjusted=p, family=len(pairs), unit=unit)
        for (one, other), difference, p in zip(pairs, differences, adjusted, strict=True)
    ]


def rounded(number: int) -> str:
    """Return a number with two digits that count.

    >>> rounded(1234), rounded(87), rounded(3)
    ('1,200', '87', '3')
    """
    return f"{float(f'{number:.2g}'):,.0f}"
