"""What a logger is: followers are sent the rows of a run's metrics.jsonl, which is the truth and always written."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpo_lab.components import Component, component
from dpo_lab.figures import Better
from dpo_lab.loggers.lineage import Part

Row = Mapping[str, Any]
"""`step`, `round` and finite numbers by name."""


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """What a run is called where its figures are shown."""

    name: str
    """Made from its configuration, such as tiny-dpo-films-3f9c2a10."""
    id: str
    """Content id, 64 hex digits."""
    directory: Path
    """Where the run's files are."""
    label: str = ""
    """What its sweep varies, in one word, such as beta0.1-seed0; empty outside of a sweep."""
    config: Mapping[str, Any]
    """The resolved configuration as plain data."""
    tags: tuple[str, ...] = ()
    notes: str = ""
    group: str | None = None
    """Name of the sweep that it belongs to."""
    job: str = "train"
    """The stage that it is a run of."""
    better: Mapping[str, Better] = field(default_factory=dict)
    """Figures of held-out data that rows may have, with the direction in which each gets better."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """How far a follower of a run got in earlier processes."""

    directory: Path
    """Where its files go, below the run's."""
    token: str
    """Eight hex digits drawn when this run was first sent there; a run that starts over draws others."""
    sent: int = 0
    """Every row up to this step is known to be there."""


class Follower(ABC):
    """One place that a run's figures are sent to while it trains or afterwards."""

    settle_seconds: float = 0.0
    """How long after `send` a row may still be lost to a kill."""

    @abstractmethod
    def send(self, row: Row) -> None:
        """Take the figures of a step; steps grow."""

    @abstractmethod
    def summarise(self, summary: Row, samples: Sequence[Row]) -> None:
        """Take the figures of the finished run, and texts (prompt, answers) to show if that was asked for."""

    def trace(self, parts: Sequence[Part]) -> None:  # noqa: B027 - most places show figures alone
        """Take the parts that the finished run was made from and made; a place that shows figures alone passes them over."""

    def show(self, tables: Mapping[str, Sequence[Row]]) -> None:  # noqa: B027 - most places have no tables
        """Take tables of figures by name, one mapping per row, without a prompt or an answer."""

    def warn(self, title: str, text: str) -> None:  # noqa: B027 - most places can tell nobody
        """Tell people that something is wrong with the run; a place that tells nobody passes it over."""

    @abstractmethod
    def close(self, *, failed: bool) -> None:
        """Finish writing; called once, whatever happened to the run."""


class RunLogger(Component, ABC):
    """A place that figures go to."""

    def check(self) -> None:
        """Raise ConfigError if it cannot work here; called before anything heavy."""

    def destination(self) -> str:
        """Identify the destination and its options; a finished run is sent again when this changes."""
        return ""

    @abstractmethod
    def open(self, run: RunIdentity, mark: Mark) -> Follower | None:
        """Return the follower of a run, None for one that needs no sending."""


@component
class LocalLogger(RunLogger):
    """metrics.jsonl in the run's directory: one line per logged optimizer step, never rewritten, whatever else is asked."""

    def open(self, run: RunIdentity, mark: Mark) -> None:
        """Return None: the run writes the file itself."""
