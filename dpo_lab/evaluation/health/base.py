"""What a finding is, and the figures that findings are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

Row = Mapping[str, Any]
"""Of metrics.jsonl: `step`, and figures by name."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that goes wrong, and what to try."""

    name: str
    """Such as length_drift: in files, and on W&B."""
    round: int
    said: str
    """In one sentence, with the numbers."""
    remedy: str
    """What to try, with the settings to type; part of a sentence that begins with `try`."""

    @property
    def title(self) -> str:
        """The name in words.

        >>> Finding(name="length_drift", round=1, said="", remedy="").title
        'length drift'
        """
        return self.name.replace("_", " ")

    def record(self) -> dict[str, Any]:
        """Return it as plain data, which `Finding(**record)` reads."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class History:
    """The figures of one round: of training so far, and of held-out data as far as they are known."""

    round: int = 1
    rows: Sequence[Row] = ()
    """Of metrics.jsonl in this round; some may have figures of held-out data alone."""
    before: Mapping[str, float] = field(default_factory=dict)
    """Figures of the model before training, by their names in rows."""
    after: Mapping[str, float] = field(default_factory=dict)
    """Figures of the round's policy when it is trained, with NAME/low and NAME/high; empty while it is trained."""
    earlier: Sequence[Mapping[str, float]] = ()
    """The same of the rounds before this one."""
    pairs: int = 0
    """Trained on."""
    same_tokens: int = 0
    """Pairs that were left out because both responses are the same tokens after cutting."""
    finished: bool = True
    """Whether the round's training has ended."""

    def values(self, name: str) -> list[float]:
        """Return the values of a figure, row by row, without rows that lack it."""
        return [float(row[name]) for row in self.rows if isinstance(row.get(name), int | float)]

    def first(self, name: str) -> float | None:
        """Return the first value of a figure."""
        return next(iter(self.values(name)), None)

    def recent(self, name: str) -> float | None:
        """Return the mean of the last quarter of a figure's rows: single steps are noisy."""
        values = self.values(name)
        return fmean(values[-max(1, len(values) // 4) :]) if values else None

    def newest(self, name: str) -> float | None:
        """Return the newest value of a figure of held-out data: after training, else of the last row that has it."""
        if name in self.after:
            return float(self.after[name])
        return next(reversed(self.values(name)), None)

    def enough(self, rows: int) -> bool:
        """Return whether so many rows of training are there; a training that has ended needs no more than three."""
        return len(self.values("loss")) >= (min(rows, 3) if self.finished else rows)
