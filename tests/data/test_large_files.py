"""Facts about files of many rows: what is held in memory while they are read, and what is shown meanwhile."""

import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from dpo_lab import progress
from dpo_lab.data import load
from dpo_lab.data.files import Rows
from dpo_lab.data.load import load_pairs
from dpo_lab.data.problems import KEPT, DataError, Report
from dpo_lab.records import PreferencePair, digest_of

ROWS = 600


def written(path: Path, count: int = ROWS, **more: Any) -> Path:
    """Write conversations of one question and two answers, all short."""
    with path.open("w") as file:
        for number in range(count):
            turns = [{"role": "user", "content": f"question {number}"}]
            answers = {name: [*turns, {"role": "assistant", "content": f"{name} {number}"}] for name in ("chosen", "rejected")}
            file.write(json.dumps({"prompt": turns, **answers, **more}) + "\n")
    return path


def traced(path: Path) -> tuple[list[PreferencePair], Report, float]:
    """Return what is read of a file, and the most bytes per row that were held on the way."""
    tracemalloc.start()
    try:
        pairs, report = load_pairs(path, max_dropped=1.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return pairs, report, peak / report.num_rows


def test_a_row_costs_its_pair_and_not_its_line(tmp_path: Path) -> None:
    load_pairs(written(tmp_path / "first.jsonl", 1), max_dropped=0.0)  # imports are not counted
    pairs, _, small = traced(written(tmp_path / "small.jsonl"))
    *_, wide = traced(written(tmp_path / "wide.jsonl", unread="x" * 5000))
    assert len(pairs) == ROWS
    assert small < 950  # a million rows take .9 GB; with bytes, text, lines and rows held at once they took 4.3
    assert wide < small + 250  # a few lines of 5000 characters at a time, over 600 rows


def test_the_rows_of_a_list_are_given_up_as_they_are_taken(tmp_path: Path) -> None:
    lines = written(tmp_path / "lines.jsonl", unread=[[number] for number in range(40)]).read_text().splitlines()
    (tmp_path / "list.json").write_text(f"[{','.join(lines)}]")
    tracemalloc.start()
    rows = Rows(tmp_path / "list.json")
    taken = iter(rows)
    next(taken)
    before = tracemalloc.get_traced_memory()[0]
    assert sum(1 for _ in taken) == ROWS - 1
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after < before / 10


def test_a_note_on_every_row_is_counted_and_the_first_ones_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "noted.jsonl"
    row = '{"instruction": "Which?", "chosen": "<s> %d", "rejected": " no"}\n'
    path.write_text("".join(row % number for number in range(ROWS)))
    _, report, _ = traced(path)
    assert report.counts == {"special_token_in_text": ROWS, "outer_whitespace": ROWS}
    assert [problem.row for problem in report.problems if problem.code == "outer_whitespace"] == list(range(1, KEPT + 1))
    assert f"  {ROWS} x special_token_in_text (rows 1, 2, 3, 4, 5, ...): " in report.lines()[1]


def test_every_row_with_an_error_is_counted_beyond_those_that_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "errors.jsonl"
    path.write_text('{"prompt": "Q", "chosen": "a", "rejected": "b"}\n' + '{"prompt": "Q", "chosen": 1, "rejected": "b"}\n' * 500)
    with pytest.raises(DataError) as caught:
        load_pairs(path, max_dropped=0.0)
    assert "500 of 501 rows cannot be used" in str(caught.value)
    assert "\n  row 21: " in str(caught.value)
    assert "\n  and 480 more\n" in str(caught.value)


def test_reading_shows_how_far_it_is_from_the_first_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(load, "ROWS_AT_A_TIME", 1)
    load_pairs(written(tmp_path / "three.jsonl", 3), max_dropped=0.0)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert [line.split("  ")[:2] for line in lines] == [["read three.jsonl", f"{number}/3"] for number in (1, 2, 3)]


def test_the_digest_of_pairs_is_that_of_the_list_that_is_never_made(tmp_path: Path) -> None:
    pairs, _ = load_pairs(written(tmp_path / "pairs.jsonl", 3), max_dropped=0.0)
    listed = [(pair.id, pair.finished, pair.score_chosen, pair.score_rejected, pair.preference) for pair in pairs]
    for some in (listed, listed[:1], []):
        assert digest_of(iter(some)) == hashlib.sha256(repr(some).encode()).hexdigest()
