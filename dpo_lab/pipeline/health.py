"""What goes wrong with a run, looked for while each round trains and when it has been measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dpo_lab.evaluation.health import Finding, History, findings_of

LEAST = 10
"""Rows between two looks, at first; later a tenth of the rows so far, so that looking stays cheap."""


@dataclass
class Health:
    """The findings of a run so far."""

    findings: list[Finding] = field(default_factory=list)
    """Of the rounds that have ended."""
    measured: list[Mapping[str, float]] = field(default_factory=list)
    """Figures of the policy of each round that has ended."""
    _rows: list[Mapping[str, Any]] = field(default_factory=list)
    _round: int = 0
    _told: set[str] = field(default_factory=set)
    _next: int = LEAST
    _pairs: dict[str, Any] = field(default_factory=dict)

    def begin_round(self, number: int, pairs: int, same_tokens: int) -> None:
        """Take note of a round's pairs: trained on, and left out because both sides are the same tokens."""
        self._round, self._rows, self._told, self._next = number, [], set(), LEAST
        self._pairs = {"pairs": pairs, "same_tokens": same_tokens}

    def look(self, row: Mapping[str, Any], before: Mapping[str, float]) -> list[Finding]:
        """Take a row of metrics.jsonl; return what is found for the first time in its round.

        A function of the rows alone: a continued run finds the same at the same steps.

        Args:
            row: of the round that has begun.
            before: figures of the model before training.
        """
        self._rows.append(row)
        if len(self._rows) < self._next:
            return []
        self._next = len(self._rows) + max(LEAST, len(self._rows) // 10)
        so_far = {"rows": self._rows, "before": before, "earlier": self.measured, **self._pairs}
        history = History(round=self._round, finished=False, **so_far)
        new = [finding for finding in findings_of(history) if finding.name not in self._told]
        self._told |= {finding.name for finding in new}
        return new

    def end_round(self, before: Mapping[str, float], after: Mapping[str, float]) -> list[Finding]:
        """Return what is wrong with the round, whose policy has been measured, as far as its figures are known."""
        known = {"rows": self._rows, "before": before, "after": after, "earlier": tuple(self.measured), **self._pairs}
        found = findings_of(History(round=self._round, **known))
        self.findings += found
        self.measured.append(after)
        return found
