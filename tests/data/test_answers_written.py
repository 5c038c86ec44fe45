"""Answers made elsewhere that hold turns as text: turns if all answers of the row are, else refused with what to type."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.data.answers.columns import AnswerColumns
from dpo_lab.data.answers.single import single_answers
from dpo_lab.data.problems import DataError
from tests.data.test_answer_files import read, written
from tests.data.test_unread import BAD, GOOD, TURN
from tests.data.test_written import COVERS

ASKED = {"prompt": TURN["content"]}
AS_TEXT = AnswerColumns(text="chat")
SHOWN = ["a fence", "a label", "a tag", "base64", "a data url"]
SENTENCE = "Here is the JSON: "


def refused(row: dict[str, Any], file: Path, columns: AnswerColumns | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read(written(file, row), columns or AnswerColumns())
    return str(caught.value)


@pytest.mark.parametrize("cover", [*SHOWN, "entities"])
@pytest.mark.parametrize("before", [[], [TURN]])
def test_where_all_answers_of_a_row_write_turns_they_are_turns(cover: str, before: list[Any], tmp_path: Path) -> None:
    responses = [COVERS[cover](json.dumps([*before, turn])) for turn in (GOOD, BAD)]
    (found,), _ = read(written(tmp_path / "a.jsonl", {**ASKED, "responses": responses}))
    assert (found.prompt.text, *found.responses) == (TURN["content"], GOOD["content"], BAD["content"])


@pytest.mark.parametrize("cover", SHOWN)
@pytest.mark.parametrize("before", [[], [TURN]])
def test_turns_beside_other_text_are_refused_and_read_as_they_stand_where_the_user_says_so(
    cover: str, before: list[Any], tmp_path: Path
) -> None:
    row = {"prompt": "Write a chat as JSON.", "responses": [COVERS[cover](json.dumps([*before, GOOD])), "I cannot."]}
    message = refused(row, tmp_path / "a.jsonl")
    assert "[wrong_type]" in message
    assert "candidates.columns.text=chat" in message
    (found,), _ = read(tmp_path / "a.jsonl", AS_TEXT)
    assert list(found.responses) == row["responses"]


@pytest.mark.parametrize("columns", [AnswerColumns(), AS_TEXT])
def test_json_turns_beside_other_text_are_refused_with_what_to_write(columns: AnswerColumns, tmp_path: Path) -> None:
    message = refused({**ASKED, "responses": [json.dumps([GOOD]), "I cannot."]}, tmp_path / "a.jsonl", columns)
    assert "responses.0 is" in message
    assert "responses.1 is other text. No setting reads both: write all answers as turns, or each as its text" in message
    assert "columns.text" not in message  # it would change nothing


def test_turns_behind_a_sentence_are_refused_and_a_prompt_may_hold_them(tmp_path: Path) -> None:
    texts = [SENTENCE + json.dumps([turn]) for turn in (GOOD, BAD)]
    message = refused({**ASKED, "responses": texts}, tmp_path / "a.jsonl")
    assert "[json_text]" in message
    assert "candidates.columns.text=chat" in message
    assert list(read(tmp_path / "a.jsonl", AS_TEXT)[0][0].responses) == texts
    (found,), _ = read(written(tmp_path / "b.jsonl", {"prompt": texts[0], "responses": ["Valid.", "No."]}))
    assert found.prompt.text == texts[0]


@pytest.mark.parametrize("text", [COVERS["a fence"](json.dumps([GOOD])), SENTENCE + json.dumps([GOOD])])
def test_one_answer_that_shows_turns_says_nothing_of_what_it_is(text: str, tmp_path: Path) -> None:
    file = written(tmp_path / "a.jsonl", {**ASKED, "answer": text})
    with pytest.raises(DataError, match=r"type columns\.text=chat"):
        single_answers(file, AnswerColumns(), [])
    (found,) = single_answers(file, AS_TEXT, [])
    assert found.responses == (text,)
