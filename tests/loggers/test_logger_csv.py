"""The table for spreadsheets holds every row, whatever columns come and whatever stops the run."""

import csv
from pathlib import Path
from typing import Any

from dpo_lab.loggers.base import Mark, RunIdentity
from dpo_lab.loggers.csv_table import TABLE, CSVLogger


def opened(directory: Path, sent: int = 0) -> Any:
    run = RunIdentity(name="tiny", id="ab" * 32, directory=directory, config={})
    return CSVLogger().open(run, Mark(directory=directory, token="0" * 8, sent=sent))


def table(directory: Path) -> list[dict[str, str]]:
    with (directory / TABLE).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_numbers_read_back_to_the_bit(tmp_path: Path) -> None:
    opened(tmp_path).send({"step": 1, "loss": 0.1 + 0.2, "rewards/margins": -1e-17})
    (row,) = table(tmp_path)
    assert (int(row["step"]), float(row["loss"]), float(row["rewards/margins"])) == (1, 0.1 + 0.2, -1e-17)


def test_a_new_column_keeps_every_earlier_row_and_a_missing_one_is_empty(tmp_path: Path) -> None:
    follower = opened(tmp_path)
    for row in ({"step": 1, "loss": 0.5}, {"step": 2, "kl": 3.0}, {"step": 3, "loss": 0.25}):
        follower.send(row)
    assert table(tmp_path) == [
        {"step": "1", "loss": "0.5", "kl": ""},
        {"step": "2", "loss": "", "kl": "3.0"},
        {"step": "3", "loss": "0.25", "kl": ""},
    ]


def test_a_run_that_goes_on_keeps_the_rows_before(tmp_path: Path) -> None:
    opened(tmp_path).send({"step": 1, "loss": 0.5})
    follower = opened(tmp_path, sent=1)
    follower.send({"step": 2, "loss": 0.25, "kl": 1.0})
    assert [(row["step"], row["loss"]) for row in table(tmp_path)] == [("1", "0.5"), ("2", "0.25")]


def test_what_a_kill_left_behind_the_mark_is_written_once(tmp_path: Path) -> None:
    follower = opened(tmp_path)
    for step in (1, 2, 3):
        follower.send({"step": step, "loss": 1 / step})
    path = tmp_path / TABLE
    path.write_bytes(path.read_bytes()[:-4])  # killed in the middle of row 3, the mark stands at 1
    follower = opened(tmp_path, sent=1)
    for step in (2, 3):
        follower.send({"step": step, "loss": 1 / step})
    assert [row["step"] for row in table(tmp_path)] == ["1", "2", "3"]
    assert float(table(tmp_path)[2]["loss"]) == 1 / 3
