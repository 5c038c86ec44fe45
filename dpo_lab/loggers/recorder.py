"""The record of a run: its metrics.jsonl, and the loggers that follow it."""

import json
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from filelock import FileLock

from dpo_lab.durable_files import write_durably
from dpo_lab.loggers.base import Follower, LocalLogger, Mark, Row, RunIdentity, RunLogger
from dpo_lab.loggers.lineage import Part, parts_of
from dpo_lab.loggers.metrics_file import MetricsFile
from dpo_lab.manifests import digest_of
from dpo_lab.own_files import make_own_below
from dpo_lab.progress import say
from dpo_lab.run_directory import LOGGERS, METRICS
from dpo_lab.watching import BehindError

STATE = "state.json"
EVERY_SECONDS = 1.0  # between two writings of a follower's state


@dataclass
class State:
    """What is known of a follower across processes."""

    destination: str
    token: str
    sent: int = 0
    """Rows up to this step are there for certain."""
    finished: bool = False
    """Whether it has every row and the summary."""
    warned: list[str] = field(default_factory=list)
    """Titles of the warnings that it has passed on."""


class Recorder:
    """Writes a run's rows to metrics.jsonl and sends them to its loggers; a context manager that always closes them.

    On entering, each logger gets the recorded rows that it has not got yet, so a resumed run sends new rows only.
    A logger that fails is told of and left behind: the file is the truth, and the same command sends the rest later.
    """

    def __init__(self, run: RunIdentity, loggers: Mapping[str, RunLogger], rows: MetricsFile) -> None:
        self.run, self.loggers, self.rows = run, loggers, rows
        self._lines: dict[str, Line] = {}
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        with self._opened as stack:  # closes what is open if one cannot be opened
            for key, logger in self.loggers.items():
                state = read_state(self.run, key, logger)
                self._try(key, partial(self._open, key, logger, state))
            self._opened = stack.pop_all()
        return self

    def tell(self, row: Row) -> bool:
        """Record a row and send it on, unless its step is recorded already; return whether it was new."""
        if not self.rows.write(dict(row)):
            return False
        for key, line in list(self._lines.items()):
            self._try(key, partial(line.send, numbers(row)))
        return True

    def warn(self, title: str, text: str) -> None:
        """Have the loggers that can do so warn people, each once of the same thing in a run."""
        for key, line in list(self._lines.items()):
            self._try(key, partial(line.warn, title, text))

    def finish(
        self,
        summary: Row,
        samples: Sequence[Row] = (),
        lineage: Sequence[Row] = (),
        tables: Mapping[str, Sequence[Row]] = MappingProxyType({}),
    ) -> None:
        """Send the figures of the finished run, and some of its texts for the loggers that were asked to show them.

        Args:
            lineage: the artifacts of run.json, of which loggers are told the digests.
            tables: more figures, by the name of the table.
        """
        parts = parts_of(lineage)
        for key, line in list(self._lines.items()):
            self._try(key, partial(line.finish, numbers(summary), samples, parts, tables))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._opened.__exit__(kind, error, trace)

    def _open(self, key: str, logger: RunLogger, state: State) -> None:
        directory = self.run.directory / LOGGERS / key
        follower = logger.open(self.run, Mark(directory=directory, token=state.token, sent=state.sent))
        if follower:
            line = self._lines[key] = Line(follower, directory / STATE, state)
            self._opened.push(lambda kind, error, trace: self._try(key, partial(line.close, failed=_is_failure(kind))))
            for row in self.rows.rows():
                line.send(numbers(row))

    def _try(self, key: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._lines.pop(key, None)
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            say(
                f"  logger.{key} stopped ({reason}), and this run continues without it. "
                f"Nothing is lost: every figure is in {self.rows.path}, and the same command sends what is missing later."
            )


def _is_failure(kind: type[BaseException] | None) -> bool:
    """Return whether what ends a run is a failure: a search that ends it early is none."""
    return kind is not None and not issubclass(kind, BehindError)


class Line:
    """A follower and how far it is known to have got; the state is written behind it, never ahead."""

    def __init__(self, follower: Follower, path: Path, state: State) -> None:
        self.follower, self.path, self.state = follower, path, state
        self._waiting: deque[tuple[float, int]] = deque()
        self._complete = False
        self._written = time.monotonic()
        self._write()

    def send(self, row: Row) -> None:
        """Send a row that is not known to be there."""
        if row["step"] <= self.state.sent:
            return
        self.follower.send(row)
        now = time.monotonic()
        self._waiting.append((now, row["step"]))
        if now - self._written >= EVERY_SECONDS:
            self._settle(now - self.follower.settle_seconds)
            self._write()

    def warn(self, title: str, text: str) -> None:
        """Pass a warning on that the follower has not got; it may get it twice after a kill, never not at all."""
        if title not in self.state.warned:
            self.follower.warn(title, text)
            self.state.warned.append(title)
            self._write()

    def finish(self, summary: Row, samples: Sequence[Row], parts: Sequence[Part], tables: Mapping[str, Sequence[Row]]) -> None:
        """Send the figures of the finished run and what it was made from."""
        self.follower.summarise(summary, samples)
        self.follower.show(tables)
        self.follower.trace(parts)
        self._complete = True

    def close(self, *, failed: bool) -> None:
        """Close the follower; then all that was sent is there."""
        self.follower.close(failed=failed)
        self._settle(math.inf)
        self.state.finished = self._complete and not failed
        self._write()

    def _settle(self, until: float) -> None:
        while self._waiting and self._waiting[0][0] <= until:
            self.state.sent = self._waiting.popleft()[1]

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = asdict(self.state)
        write_durably(self.path, json.dumps({**state, "digest": digest_of(state)}) + "\n")
        self._written = time.monotonic()


def send_recorded(
    run: RunIdentity,
    loggers: Mapping[str, RunLogger],
    summary: Row,
    samples: Sequence[Row] = (),
    warnings: Sequence[tuple[str, str]] = (),
    lineage: Sequence[Row] = (),
    tables: Mapping[str, Sequence[Row]] = MappingProxyType({}),
) -> list[str]:
    """Send a finished run's metrics.jsonl to the loggers that have not got all of it; return their keys.

    Args:
        warnings: titles and texts of what is wrong with the run.
        lineage: the artifacts of run.json.
        tables: more figures, by the name of the table.
    """
    followed = {key: logger for key, logger in loggers.items() if not isinstance(logger, LocalLogger)}
    if not unfinished(run, followed):
        return []
    (run.directory / LOGGERS).mkdir(exist_ok=True)
    with FileLock(run.directory / LOGGERS / ".lock"):  # the same command in two terminals sends once
        make_own_below(run.directory / LOGGERS)
        waiting = unfinished(run, followed)
        with Recorder(run, waiting, MetricsFile(run.directory / METRICS)) as recorder:
            for title, said in warnings:
                recorder.warn(title, said)
            recorder.finish(summary, samples, lineage, tables)
        return sorted(waiting.keys() - unfinished(run, waiting).keys())


def unfinished(run: RunIdentity, loggers: Mapping[str, RunLogger]) -> dict[str, RunLogger]:
    """Return the loggers that have not got every row and the summary of a run."""
    return {key: logger for key, logger in loggers.items() if not read_state(run, key, logger).finished}


def read_state(run: RunIdentity, key: str, logger: RunLogger) -> State:
    """Return how far a logger has got with a run; a new destination begins at the first row."""
    destination = logger.destination()
    try:
        found = json.loads((run.directory / LOGGERS / key / STATE).read_bytes())
        if found.pop("digest") != digest_of(found):
            raise ValueError
        state = State(**found)
    except FileNotFoundError:
        return State(destination, secrets.token_hex(4))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        say(f"  {run.directory / LOGGERS / key / STATE} is damaged: logger.{key} gets every row again")
        return State(destination, secrets.token_hex(4))
    return state if state.destination == destination else State(destination, state.token)


def numbers(figures: Row) -> dict[str, Any]:
    """Return the finite numbers among figures: no text, and the same whether they come from a run or from its file.

    >>> numbers({"step": 3, "loss": 0.5, "grad_norm": float("nan"), "kl": None, "note": "few pairs"})
    {'step': 3, 'loss': 0.5}
    """
    return {name: value for name, value in figures.items() if isinstance(value, int | float) and math.isfinite(value)}
