"""A table of a run's figures for spreadsheets."""

import csv
import io
from collections.abc import Sequence

from dpo_lab.artifacts import write_durably
from dpo_lab.components import component
from dpo_lab.loggers.base import Follower, Mark, Row, RunIdentity, RunLogger
from dpo_lab.own_files import make_own

TABLE = "metrics.csv"


@component
class CSVLogger(RunLogger):
    """loggers/csv/metrics.csv in the run's directory: one line per logged step, one column per figure."""

    def open(self, run: RunIdentity, mark: Mark) -> Follower:
        """Return the writer of the table."""
        return CSVTable(mark)


class CSVTable(Follower):
    """Appends lines; a row with a new column rewrites the file at once, so that no earlier line is ever lost."""

    def __init__(self, mark: Mark) -> None:
        mark.directory.mkdir(parents=True, exist_ok=True)
        self.path = mark.directory / TABLE
        self.columns: list[str] = []
        self.rows: list[Row] = []
        if self.path.exists():
            whole, _, _torn = self.path.read_bytes().rpartition(b"\n")
            reader = csv.DictReader(io.StringIO(whole.decode(), newline=""))
            self.columns = list(reader.fieldnames or ())
            self.rows = [row for row in reader if int(row["step"]) <= mark.sent]
            self._rewrite()  # without what a kill left behind: those rows are sent again

    def send(self, row: Row) -> None:
        """Write a line."""
        self.rows.append(row)
        new = [name for name in row if name not in self.columns]
        self.columns += new
        if new:
            self._rewrite()
            return
        make_own(self.path)
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)

    def summarise(self, summary: Row, samples: Sequence[Row]) -> None:
        """Do nothing: the table holds steps; the summary is in summary.json."""

    def close(self, *, failed: bool) -> None:
        """Do nothing: every line is written."""

    def _rewrite(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self.rows)
        write_durably(self.path, text.getvalue())
