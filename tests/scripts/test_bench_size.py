"""scripts/bench_size.py, and what it measures: memory that does not grow with the number of prompts."""

import json
from pathlib import Path

import pytest

from scripts.bench_size import call, main, rows, seconds


def test_rows_are_the_same_each_time_with_answers_of_half_to_one_and_a_half_times_the_words() -> None:
    made = list(rows(20, 5, 10))
    assert made == list(rows(20, 5, 10))
    assert {5 <= len(text.split()) <= 15 for row in made for text in row["responses"]} == {True}
    assert {len(row["responses"]) for row in made} == {5}


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_prompts(tmp_path: Path) -> None:
    peaks = []
    for count in (500, 10_000):  # 0.7 MB and 13 MB of text, 25 times as much as Python objects
        path, outputs = tmp_path / f"{count}.jsonl", tmp_path / str(count)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows(count, 5, 60)))
        peaks.append(call([f"candidates.path={path}", f"paths.outputs={outputs}", "ranker=length", "trainer=cpu"]).peak)
        assert set(seconds(outputs)) == {"candidates", "ranking", "pairs"}
    assert peaks[1] - peaks[0] < 0.02  # GB


@pytest.mark.slow
def test_the_script_prints_a_line_for_each_number_of_prompts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["bench_size.py", "ranker=random", "--prompts", "20", "40"])
    main()
    assert [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()[2:]] == ["20", "40"]
