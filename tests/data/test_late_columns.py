"""Facts about columns that hold nothing in the rows that decide: read where they first hold something, or refused there."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.data.base import GivenPairs
from dpo_lab.data.columns import Columns
from dpo_lab.data.problems import DataError
from dpo_lab.data.reader import SAMPLE
from dpo_lab.data.sources import FilePairs
from tests.data.hub_directories import written

Row = dict[str, Any]
Write = Callable[[Path, list[Row]], Path]
ASKED: Row = {"instruction": "Sort them."}
LATE: Row = {"input": "b a c", "system": "Be brief."}
SHORT = 3
"""Rows that decide, in these tests."""


@pytest.fixture(autouse=True)
def few_rows_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SAMPLE == 1000
    monkeypatch.setattr("dpo_lab.data.reader.SAMPLE", SHORT)


def rows_of(names: tuple[str, str], first: Row, late: Row, count: int = SHORT + 2) -> list[Row]:
    """Return rows whose last but one has more columns than all others."""
    answers = ({names[0]: f"good {number}", names[1]: f"bad {number}"} for number in range(count))
    return [{**first, **(late if number == count - 2 else {}), **each} for number, each in enumerate(answers)]


def lines(path: Path, rows: list[Row]) -> Path:
    (path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path / "pairs.jsonl"


def one_list(path: Path, rows: list[Row]) -> Path:
    (path / "pairs.json").write_text(json.dumps(rows))
    return path / "pairs.json"


def with_nulls(rows: list[Row]) -> list[Row]:
    """Return rows as a table has them: every column in each, of one type."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name, "") for name in names} for row in rows]


def parquet(path: Path, rows: list[Row]) -> Path:
    return written(path / "set", {"train.parquet": with_nulls(rows)})


def two_parquets(path: Path, rows: list[Row]) -> Path:
    table = with_nulls(rows)
    files = {f"data/train-0000{number}-of-00002.parquet": part for number, part in enumerate((table[:SHORT], table[SHORT:]))}
    return written(path / "set", files)


def directory_of_lines(path: Path, rows: list[Row]) -> Path:
    return written(path / "set", {"train.jsonl": rows})


def given(path: Path, columns: Columns) -> GivenPairs:
    (found,) = FilePairs(path=path, columns=columns, held_out=0, max_dropped=0.0).load()
    return found


@pytest.mark.parametrize("write", [lines, one_list, parquet, two_parquets, directory_of_lines])
@pytest.mark.parametrize(("names", "columns"), [(("chosen", "rejected"), Columns()), (("good", "bad"), None)])
@pytest.mark.usefixtures("library_cache")
def test_a_known_column_is_read_wherever_it_first_holds_something(
    tmp_path: Path, write: Write, names: tuple[str, str], columns: Columns | None
) -> None:
    found = given(write(tmp_path, rows_of(names, ASKED, LATE)), columns or Columns(chosen=names[0], rejected=names[1]))
    said = [[turn["content"] for turn in pair.prompt.messages] for pair in found.train]
    assert said == [["Sort them."]] * (SHORT) + [["Be brief.", "Sort them.\n\nb a c"], ["Sort them."]]
    assert not any("not read" in note for note in found.notes)
    if columns is None:
        assert "read: prompt=instruction, input=input, system=system, chosen=good, rejected=bad" in found.notes[1]


def test_a_named_column_is_looked_for_by_its_name_though_others_are_called_as_the_roles_are(tmp_path: Path) -> None:
    first = {**ASKED, **dict.fromkeys(("prompt", "system", "chosen", "rejected"), "another")}
    file = lines(tmp_path, rows_of(("good", "bad"), first, {"briefing": "Be brief."}))
    found = given(file, Columns(prompt="instruction", system="briefing", chosen="good", rejected="bad"))
    assert [len(pair.prompt.messages) for pair in found.train] == [1] * SHORT + [2, 1]


def apart(path: Path, rows: list[Row]) -> Path:
    """Write the columns that come later into a separate file, which the library does not read as the same table."""
    return written(path / "set", {"data/train-0.parquet": rows[:SHORT], "data/train-1.parquet": rows[SHORT : SHORT + 1]})


@pytest.mark.usefixtures("library_cache")
def test_a_column_that_only_the_second_file_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its files or splits have different columns"):
        given(apart(tmp_path, rows_of(("chosen", "rejected"), ASKED, LATE)), Columns())


OTHERS: dict[str, tuple[Row, Row, str]] = {
    "a system turn makes a plain prompt one that the template renders": (
        {"prompt": "Q: Sort?"},
        {"system": "Be brief."},
        "system held nothing in the rows before; with it, this row is instruction, the rows before are trl_plain_explicit. Type",
    ),
    "turns take the place of a question": (
        ASKED,
        {"messages": [{"role": "user", "content": "Sort b, a."}]},
        "messages held nothing in the rows before; with it, messages is the prompt, which was instruction. Type",
    ),
    "another question comes first": (
        {"question": "Why?"},
        {"instruction": "Sort b, a."},
        "instruction held nothing in the rows before; with it, instruction is the prompt, which was question. Type",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_late_column_with_which_the_rows_before_would_read_otherwise_is_refused_with_what_to_type(
    tmp_path: Path, case: str
) -> None:
    first, late, words = OTHERS[case]
    path = lines(tmp_path, rows_of(("chosen", "rejected"), first, late))
    with pytest.raises(DataError) as refused:
        given(path, Columns())
    assert refused.value.code == "mixed_formats"
    assert f"row {SHORT + 1}: {words}" in str(refused.value)
    typed = Columns(**dict(re.findall(r"data\.columns\.(\w+)=([\w.]+)", str(refused.value))))
    assert len(given(path, typed).train) == SHORT + 2


def test_a_column_that_is_named_may_appear_late_and_one_that_never_does_is_refused(tmp_path: Path) -> None:
    path = lines(tmp_path, rows_of(("chosen", "rejected"), {"prompt": "Sort?"}, {"who": "Be brief."}))
    roles = [[turn["role"] for turn in pair.prompt.messages] for pair in given(path, Columns(system="who")).train]
    assert roles == [["user"]] * SHORT + [["system", "user"], ["user"]]
    with pytest.raises(DataError, match=r"data.columns.system=why: .* has no such column; it has prompt, chosen, rejected, who"):
        given(path, Columns(system="why"))


def test_late_text_that_nobody_knows_is_refused_and_left_out_where_columns_are_named(tmp_path: Path) -> None:
    path = lines(tmp_path, rows_of(("chosen", "rejected"), ASKED, {"more": "some words of the user"}))
    with pytest.raises(DataError, match=rf"row {SHORT + 1}: .*nobody reads more \('some words of the user'\)"):
        given(path, Columns())
    named = given(path, Columns(prompt="instruction"))
    assert len(named.train) == SHORT + 2
    assert "columns not read: ['more']" in named.notes[-1]


def test_scores_are_no_late_columns(tmp_path: Path) -> None:
    rows = rows_of(
        ("chosen", "rejected"),
        {**ASKED, "score_chosen": 1, "score_rejected": 0, "input": ""},
        {"input": "b a", "score_chosen": 2},
    )
    pairs = given(lines(tmp_path, rows), Columns()).train
    assert [pair.prompt.text.partition("\n\n")[2] for pair in pairs] == [""] * SHORT + ["b a", ""]
    assert [pair.score_chosen for pair in pairs] == [1.0] * SHORT + [2.0, 1.0]


@pytest.mark.parametrize("answers", [("The sky is blue.", "The sky is green."), ("To wipe it with a cloth.", "To throw it out.")])
def test_rows_without_a_prompt_are_refused_and_what_the_message_says_reads_them(tmp_path: Path, answers: tuple[str, str]) -> None:
    path = lines(tmp_path, [dict(zip(("chosen", "rejected"), answers, strict=True))])
    with pytest.raises(DataError) as refused:
        given(path, Columns())
    shared = answers[0].partition(" blue" if "blue" in answers[0] else " wipe")[0]
    assert refused.value.code == "no_prompt"
    assert f"{shared!r}, the beginning that chosen and rejected share, does not look like a prompt" in str(refused.value)
    typed = dict(re.findall(r"data\.columns\.(\w+)=(\w+)", str(refused.value)))
    assert typed == {"chosen": "chosen", "rejected": "rejected"}
    (pair,) = given(path, Columns(**typed)).train
    assert (pair.prompt.text, pair.prompt.text + pair.chosen, pair.prompt.text + pair.rejected) == (shared, *answers)
    assert "Otherwise add a column prompt that holds it." in str(refused.value)
    lines(tmp_path, [{"prompt": "What is it?\n", **json.loads(path.read_text())}])
    assert given(path, Columns()).train[0].chosen == answers[0]


def test_a_late_system_turn_beside_ranked_answers_would_make_earlier_prompts_user_turns_and_is_refused(tmp_path: Path) -> None:
    ranked = [{"rank": rank, "completion": text} for rank, text in enumerate(("a b", "c d"))]
    rows: list[Row] = [{"prompt": "Sort?", "completions": ranked} for _ in range(SHORT + 1)]
    path = lines(tmp_path, [*rows, {"system": "Be brief.", **rows[0]}])
    with pytest.raises(DataError, match="with it, the prompt is a user turn, which was plain text"):
        given(path, Columns())


def test_a_late_question_beside_answers_that_hold_their_prompts_is_refused(tmp_path: Path) -> None:
    whole: Row = {"chosen": "Q: Why?\nA: So it is.", "rejected": "Q: Why?\nA: No idea."}
    path = lines(tmp_path, [whole] * (SHORT + 1) + [{"question": "Why?", **whole}])
    with pytest.raises(DataError, match="with it, this row is instruction, the rows before are trl_plain_implicit"):
        given(path, Columns())
