"""Rows that were read as something else without a word: turns written as text, columns named as metadata, lost context."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from dpo_lab.data.columns import Columns, setting
from dpo_lab.data.load import Adapted, load_pairs
from dpo_lab.data.mapping import explained_mapping
from dpo_lab.data.pairs import pair_of
from dpo_lab.data.problems import RowProblem
from dpo_lab.data.reader import RowReader
from dpo_lab.records import PreferencePair
from tests.data.test_unread import BAD, GOOD, PAIR, TURN, typed

Row = dict[str, Any]
ASKED = {"question": "Why is the sky blue?", "chosen": GOOD["content"], "rejected": BAD["content"]}
SHARED = {"chosen": "I think: air.", "rejected": "I think: the sea."}


def read(row: Row, columns: Columns | None = None) -> PreferencePair:
    return pair_of(RowReader.for_rows(row, columns or Columns()).read(row))


def refused(row: Row) -> RowProblem:
    with pytest.raises(RowProblem) as caught:
        read(row)
    return caught.value


def test_turns_that_were_written_as_json_twice_are_turns() -> None:
    row = {**ASKED, "chosen": json.dumps(json.dumps([TURN, GOOD])), "rejected": json.dumps(json.dumps([TURN, BAD]))}
    assert read(row).chosen == GOOD["content"]
    assert read({**ASKED, "chosen": '"Quoted words."'}).chosen == '"Quoted words."'


@pytest.mark.parametrize(
    "text",
    [
        '[{"id": 1, "role": "assistant", "content": "Air."}',
        "array([{'content': 'Air.', 'role': 'assistant'}], dtype=object)",
        "[{'weight': 1.0, 'from': 'gpt', 'value': 'Air.'}\n {'from': 'human'}]",
    ],
)
def test_turns_that_cannot_be_parsed_are_refused_whatever_their_first_key(text: str) -> None:
    assert refused({**ASKED, "chosen": text}).code == "json_text"


@pytest.mark.parametrize("text", ['{"model": "m", "messages": [{"role": "user"}]} is the request.', "{see: role}"])
def test_an_answer_that_only_speaks_of_turns_is_text(text: str) -> None:
    assert read({**ASKED, "chosen": text}).chosen == text


@pytest.mark.parametrize("name", ["source", "user_feedback", "category"])
def test_without_a_prompt_a_column_that_is_named_as_metadata_may_hold_it(name: str) -> None:
    assert refused({**SHARED, name: "Why is the sky blue?"}).code == "ambiguous_columns"
    assert read({**SHARED, name: "physics", "chosen_model": "Some Model 7B"}).prompt.text == "I think:"
    assert read({**PAIR, name: "a book of the sky"}).prompt.text == TURN["content"]


@pytest.mark.parametrize("value", [{"tools": [{"name": "clock"}]}, {"deep": [{"images": ["x y"]}]}])
def test_tools_and_pictures_inside_metadata_are_refused_too(value: Row) -> None:
    assert refused({**PAIR, "metadata": value}).code == "unread_input"
    assert read({**PAIR, "metadata": {"tool": "label studio", "tools": [], "images": None}}).chosen == GOOD["content"]


@pytest.mark.parametrize("answers", [("chosen", "rejected"), ("response1", "response2")])
@pytest.mark.parametrize("more", [{"input": "The word is kettle."}, {"history": [["Hello there.", "Hello, what is it?"]]}])
def test_the_mapping_that_is_shown_keeps_what_stands_beside_an_instruction(answers: tuple[str, str], more: Row) -> None:
    row = {"instruction": "Explain it.", **more, answers[0]: "It boils water.", answers[1]: "It is a hat."}
    known = read({"instruction": "Explain it.", **more, "chosen": "It boils water.", "rejected": "It is a hat."})
    error = refused({**row, "persona": "You are a pirate."})
    pair = read({**row, "persona": "You are a pirate."}, typed(error))  # type: ignore[arg-type]  # its text is all that is read
    assert (pair.prompt, pair.chosen) == (known.prompt, known.chosen)


def test_a_word_for_nothing_is_proposed_as_no_answer() -> None:
    completions = [{"response": "It boils water."}, {"response": "It is a hat."}]
    row = {"instruction": "Explain it.", "completions": completions, "correct_answers": ["None"], "incorrect_answers": ["None"]}
    assert "data.columns.chosen=completions.0.response data.columns.rejected=completions.1.response" in str(refused(row))


@pytest.mark.parametrize(
    "more",
    [
        {"labelling_prompt": [{"role": "system", "content": "You are a precise judge of two answers."}]},
        {"prompt_type": "an open question", "domain": "general knowledge", "gen_input_configs": {"generator": "Some Model 7B"}},
    ],
)
def test_metadata_of_public_data_sets_is_no_reason_to_refuse_them(more: Row) -> None:
    assert read({**PAIR, **more}).chosen == GOOD["content"]


def test_the_first_rows_decide_and_a_source_is_not_reported() -> None:
    adapted = Adapted([("a", 1, {**PAIR, "source": "a book of the sky"})], pair_of)
    assert [pair.chosen for pair in adapted] == [GOOD["content"]]
    assert not adapted.unread


@pytest.mark.parametrize(
    ("more", "code"), [({"persona": "Be a pirate."}, "ambiguous_columns"), ({"tools": [{"name": "clock"}]}, "unread_input")]
)
def test_an_object_around_turns_may_hold_nothing_else_that_matters(more: Row, code: str) -> None:
    row = {"chosen": {"messages": [TURN, GOOD], "id": 3}, "rejected": [TURN, BAD]}
    assert list(read(row).prompt.messages) == [TURN]
    assert refused({**row, "chosen": {"messages": [TURN, GOOD], **more}}).code == code


def test_the_mapping_names_the_prompt_where_answers_of_one_turn_hold_none() -> None:
    row = {"ask": "Why is the sky blue?", "chosen": [GOOD], "rejected": [BAD]}
    error = refused(row)
    assert error.code == "ambiguous_columns"
    assert list(read(row, typed(error)).prompt.messages) == [TURN]  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [["Be brief."], {"role": "system", "content": "Be brief."}])
def test_a_system_column_that_is_no_plain_text_is_read_as_its_refusal_says(value: Any) -> None:
    row = {**ASKED, "rules_system": value}
    pair = read(row, typed(refused(row)))  # type: ignore[arg-type]
    assert list(pair.prompt.messages) == [{"role": "system", "content": "Be brief."}, TURN]


def test_a_part_of_text_that_holds_a_picture_too_is_refused() -> None:
    def asked(**more: Any) -> Row:
        return {**PAIR, "prompt": [{"role": "user", "content": [{"type": "text", "text": TURN["content"], **more}]}]}

    assert read(asked(image=None, cache_control={"type": "ephemeral"})).prompt.text == TURN["content"]
    assert refused(asked(image="a.png")).code == "unread_input"


def test_ranks_are_scores_below_zero_wherever_they_begin() -> None:
    completions = [{"rank": 2, "completion": [BAD]}, {"rank": 1, "completion": [GOOD]}]
    pair = read({"context": [TURN], "completions": completions})
    assert (pair.chosen, pair.score_chosen, pair.score_rejected) == (GOOD["content"], -1.0, -2.0)


def test_plain_answers_that_differ_in_outer_whitespace_alone_are_one_answer(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": "Q:", "chosen": " a", "rejected": " b"}, {"prompt": "Q:", "chosen": " a", "rejected": " a "}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load_pairs(path, max_dropped=1.0)[1].counts["chosen_equals_rejected"] == 1


def test_a_history_that_the_prompt_repeats_is_read_once() -> None:
    before = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello, what is it?"}]
    row = {"messages": [*before, TURN], "history": [["Hello.", "Hello, what is it?"]], "chosen": [GOOD], "rejected": [BAD]}
    assert list(read(row).prompt.messages) == [*before, TURN]


@pytest.mark.parametrize(
    "names",
    [("User Question", "better answer", "worse (b)"), ("\u554f\u984c", 'the "good" one', "bad: it's"), ("7", "a,b", "null")],
)
def test_the_mapping_can_be_typed_whatever_the_columns_are_called(names: tuple[str, str, str], tmp_path: Path) -> None:
    row = dict(zip(names, ("Why is it so?", "It is so.", "No idea at all."), strict=True))
    said = str(refused(row))
    named = {"prompt": names[0], "chosen": names[1], "rejected": names[2]}
    words = " ".join(setting(role, name) for role, name in named.items())
    assert words in said or names[0] == "7"
    given = OverridesParser.create().parse_overrides(shlex.split(words))
    assert {each.key_or_group.removeprefix("data.columns."): each.value() for each in given} == named


def test_a_row_that_lacks_an_answer_is_told_what_a_name_stands_for() -> None:
    said = explained_mapping({"prompt": "Why is it so?", "text": "It is so."})
    assert "data.columns.chosen=NAME data.columns.rejected=NAME (NAME: the column; a pair needs a better and a worse" in said
    assert "NAME:" not in explained_mapping({"prompt": "Why is it so?", "good": "It is so.", "bad": "No idea at all."})
