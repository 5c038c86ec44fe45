"""Objects with a `role` or a `from` that are not turns: people, routes, mails; and turns with more keys than two."""

import json
from typing import Any

import pytest

from dpo_lab.data.columns import Columns
from dpo_lab.data.pairs import pair_of
from dpo_lab.data.problems import RowProblem
from dpo_lab.data.reader import RowReader
from dpo_lab.records import PreferencePair

Row = dict[str, Any]
ASKED = {"question": "Which way?", "chosen": "By train.", "rejected": "On foot."}
ROUTE, OTHER = {"from": "Rome", "to": "Paris"}, {"from": "Rome", "to": "Oslo"}
PERSON, OTHERS = {"role": "manager", "name": "Ann"}, {"role": "clerk", "name": "Bo"}


def read(row: Row, columns: Columns | None = None) -> PreferencePair:
    return pair_of(RowReader.for_rows(row, columns or Columns()).read(row))


def refused(row: Row) -> RowProblem:
    with pytest.raises(RowProblem) as caught:
        read(row)
    return caught.value


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [(ROUTE, OTHER), ([PERSON], [OTHERS]), ({"from": 1, "value": 2}, {"from": 1, "value": 3}), ({"role": 1, "content": "a"}, [])],
)
def test_json_text_of_objects_that_are_not_turns_is_refused_and_read_where_the_user_says_so(chosen: Any, rejected: Any) -> None:
    row = {**ASKED, "chosen": json.dumps(chosen), "rejected": json.dumps(rejected)}
    problem = refused(row)
    assert problem.code == "json_text"
    assert "data.columns.text=chat" in problem.found
    assert read(row, Columns(text="chat")).chosen == row["chosen"]


def test_an_object_that_says_where_an_answer_is_from_is_read_as_an_answer() -> None:
    chosen, rejected = (
        {"from": "some-model", "answer": text, "score": score} for text, score in (("By train.", 2), ("On foot.", 1))
    )
    pair = read({**ASKED, "chosen": chosen, "rejected": rejected})
    assert (pair.chosen, pair.rejected, pair.score_chosen, pair.score_rejected) == ("By train.", "On foot.", 2.0, 1.0)


def test_an_object_that_is_not_a_turn_is_refused_as_one_not_as_a_turn_without_a_key() -> None:
    problem = refused({**ASKED, "chosen": PERSON, "rejected": OTHERS})
    assert problem.code == "answer_object"
    assert "the keys role, name" in problem.found
    problem = refused({**ASKED, "chosen": [PERSON], "rejected": [OTHERS]})
    assert problem.code == "wrong_type"
    assert "chosen turn 1 is {'role': 'manager'" in problem.found


def test_a_turn_without_its_text_is_still_a_turn() -> None:
    problem = refused(
        {**ASKED, "chosen": {"role": "assistant", "text": "By train."}, "rejected": {"role": "assistant", "content": "a"}}
    )
    assert problem.code == "missing_field"
    assert "chosen turn 1 has no 'content'; its keys are role, text" in problem.found


def test_a_turn_may_say_where_it_is_from() -> None:
    prompt = [{"from": "web", "role": "user", "content": "Which way?"}]
    assert read({"prompt": prompt, "chosen": "By train.", "rejected": "On foot."}).prompt.messages[0]["content"] == "Which way?"


@pytest.mark.parametrize("key", ["role", "from"])
def test_a_sentence_under_the_name_of_a_role_is_not_lost(key: str) -> None:
    problem = refused({**ASKED, "setting": {key: "You are a guide who knows every train."}})
    assert problem.code == "ambiguous_columns"
    assert "setting" in problem.found
