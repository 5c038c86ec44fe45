"""Facts about columns that no format reads: what may stay unread, what is refused, and that the remedy reads the file."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.data.columns import Columns
from dpo_lab.data.load import load_pairs
from dpo_lab.data.problems import DataError, Report
from dpo_lab.records import PreferencePair

Row = dict[str, Any]
TURN = {"role": "user", "content": "Why is the sky blue?"}
GOOD, BAD = {"role": "assistant", "content": "Air scatters blue."}, {"role": "assistant", "content": "The sea is blue."}
PAIR = {"prompt": [TURN], "chosen": [GOOD], "rejected": [BAD]}
IMPLICIT = {"chosen": "Q: Why?\nA: So it is.", "rejected": "Q: Why?\nA: No idea."}


def loaded(tmp_path: Path, *rows: Row, columns: Columns | None = None) -> tuple[list[PreferencePair], Report]:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_pairs(path, max_dropped=0.0, columns=columns or Columns())


def refused(tmp_path: Path, *rows: Row, columns: Columns | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        loaded(tmp_path, *rows, columns=columns)
    return caught.value


def typed(error: DataError) -> Columns:
    return Columns(**dict(re.findall(r"data\.columns\.(\w+)=([^\s,;()]*[^\s,;().])", str(error))))


HARMLESS: dict[str, Any] = {
    "nothing": None,
    "images": [],
    "tools": "[]",
    "videos": [None],
    "audio": {"path": None, "bytes": None},
    "system": "",
    "points": 3,
    "verified": True,
    "made_at": "2024-03-01 10:00:00",
    "day": "1/2/2024",
    "mood": "calm",
    "home": "https://a.b/c?d=e",
    "chosen_model": "Some Model 7B",
    "source": "a book of the sky",
    "critique": "The second one is wrong, as any child knows.",
    "distilabel_metadata": {"raw": "some long text of a program"},
    "question": "Why is the sky blue?",
    "messages": [TURN, GOOD],
    "text": "<|user|>\nWhy is the sky blue?<|end|>\n<|assistant|>\nAir scatters blue.<|end|>",
    "generations": ["Air scatters blue.", "The sea is blue.", "A third thing altogether."],
    "original_response": "A third thing altogether.",
    "conversation": [{"input": "Why is the sky blue?", "output": None}],
}


@pytest.mark.parametrize("name", HARMLESS)
def test_metadata_and_repetitions_may_stay_unread(tmp_path: Path, name: str) -> None:
    pairs, report = loaded(tmp_path, {**PAIR, name: HARMLESS[name]})
    assert list(pairs[0].prompt.messages) == [TURN]
    empty = name in ("nothing", "images", "tools", "videos", "audio", "system", "source", "generations")
    assert report.unread_columns == (() if empty else (name,))


LOST: dict[str, Any] = {
    "persona": "You are a pirate.",
    "documents": ["The sky is a thing."],
    "context": "Be brief.",
    "reasoning": "Let me think about it.",
    "dialog": [{"role": "user", "content": "Earlier words of mine"}],
    "messages": [{"role": "system", "content": "Be brief."}, TURN],
    "meta_prompt": "Be brief.",
    "extra": {"deep": [{"words": "Be brief."}]},
    "\u80cc\u666f": "\u5929\u7a7a\u4e3a\u4ec0\u4e48\u662f\u84dd\u8272\u7684",
    "ask": "Why?",
    "input": "kettle",
}


@pytest.mark.parametrize("name", LOST)
@pytest.mark.parametrize("late", [False, True])
def test_text_that_nobody_reads_is_refused_and_the_mapping_that_is_shown_leaves_it_out(
    tmp_path: Path, name: str, late: bool
) -> None:
    other = {**PAIR, "prompt": [{"role": "user", "content": "What is late?"}]}
    rows = [{**PAIR, name: LOST[name]}]
    error = refused(tmp_path, *([{**other, name: None}, *rows] if late else rows))
    assert error.code == "ambiguous_columns"
    assert f"nobody reads {name}" in str(error)
    assert "data.columns.prompt=prompt data.columns.chosen=chosen data.columns.rejected=rejected" in str(error)
    pairs, report = loaded(tmp_path, *rows, columns=typed(error))
    assert pairs[0] == loaded(tmp_path, PAIR)[0][0]
    assert report.unread_columns == (name,)


@pytest.mark.parametrize(
    "row",
    [
        {"dialog": [TURN], "chosen": "I think: air", "rejected": "I think: the sea"},
        {"user_query": TURN["content"], "chosen": "I think: air", "rejected": "I think: the sea"},
        {"user_query": TURN["content"], "chosen": "Air.", "rejected": "The sea."},
        {"ask": {"words": TURN["content"]}, "chosen": "I think: air", "rejected": "I think: the sea"},
    ],
)
def test_a_prompt_under_an_unknown_name_is_never_replaced_by_words_that_the_answers_share(tmp_path: Path, row: Row) -> None:
    error = refused(tmp_path, row, row)
    assert error.code == "ambiguous_columns"
    assert "the beginning that both answers share is the prompt" in str(error)
    pairs, report = loaded(tmp_path, row, columns=typed(error))
    assert list(pairs[0].prompt.messages) == [TURN]
    assert (pairs[0].chosen, pairs[0].prompt.rendered) == (row["chosen"], False)
    assert report.lines()[1].startswith("  read: prompt=")


def test_one_word_may_be_the_prompt_where_no_column_holds_it(tmp_path: Path) -> None:
    assert refused(tmp_path, {**IMPLICIT, "thing": "kettle"}).code == "ambiguous_columns"
    assert loaded(tmp_path, {**IMPLICIT, "source": "kettle"})[1].num_kept == 1
    assert (
        loaded(tmp_path, {**IMPLICIT, "thing": "kettle"}, columns=Columns(chosen="chosen", rejected="rejected"))[1].num_kept == 1
    )


def test_where_the_answers_hold_the_conversation_the_mapping_names_no_prompt(tmp_path: Path) -> None:
    row = {"chosen": [TURN, GOOD], "rejected": [TURN, BAD], "persona": "You are a pirate."}
    error = refused(tmp_path, row)
    assert "data.columns.prompt" not in str(error)
    assert list(loaded(tmp_path, row, columns=typed(error))[0][0].prompt.messages) == [TURN]


def test_a_prompt_that_no_column_says_is_shown_with_one_example(tmp_path: Path) -> None:
    assert loaded(tmp_path, IMPLICIT)[1].lines()[1] == (
        "  no column holds the prompt: it is the beginning that both answers share, for instance 'Q: Why?\\nA:' (row 1)"
    )
    row = {"chosen": [TURN, GOOD], "rejected": [TURN, BAD]}
    assert loaded(tmp_path, row)[1].lines()[1] == (
        "  the prompt is the turns before the answer, for instance 'Why is the sky blue?' (row 1)"
    )


def test_a_beginning_that_is_no_question_is_no_prompt_until_the_user_says_so(tmp_path: Path) -> None:
    row = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    error = refused(tmp_path, row)
    assert error.code == "no_prompt"
    pair = loaded(tmp_path, row, columns=typed(error))[0][0]
    assert (pair.prompt.text, pair.chosen, pair.rejected) == ("The sky is", " blue.", " green.")


INPUTS: dict[str, Any] = {
    "images": ["a.png"],
    "image": {"bytes": "x", "path": None},
    "audio": {"path": "a.wav"},
    "videos": ["x y"],
    "attachment": "dir/a.pdf",
    "files": ["a.wav"],
    "nested": [{"path": "a/b.mp4"}],
    "blob": base64.b64encode(bytes(range(250))).decode(),
    "picture_url": "https://a.b/c",
    "screen": "data:image/png;base64,AAAA",
    "tools": [{"name": "clock"}],
    "functions": '[{"name": "clock"}]',
}


@pytest.mark.parametrize("name", INPUTS)
def test_what_text_does_not_carry_is_refused_until_the_user_leaves_it_out(tmp_path: Path, name: str) -> None:
    row = {**PAIR, name: INPUTS[name]}
    error = refused(tmp_path, row)
    assert error.code == "unread_input"
    assert f"{name} holds" in str(error)
    assert loaded(tmp_path, row, columns=typed(error))[1].unread_columns == (name,)


@pytest.mark.parametrize(
    "turn",
    [
        {**GOOD, "reasoning_content": "Let me think."},
        {**GOOD, "tool_calls": [{"function": {"name": "clock"}}]},
        {**GOOD, "images": ["a.png"]},
        {"role": "assistant", "content": [{"type": "text", "text": "So."}, {"type": "image_url", "image_url": {"url": "x"}}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Let me think."}]},
    ],
)
def test_a_turn_with_more_than_text_is_refused(tmp_path: Path, turn: Row) -> None:
    assert refused(tmp_path, {**PAIR, "chosen": [turn]}).code == "unread_input"


def test_a_turn_may_have_empty_and_descriptive_keys(tmp_path: Path) -> None:
    more: Row = {"tool_calls": None, "images": [], "loss_weight": 1.0, "name": "anna", "id": "some id of it"}
    assert loaded(tmp_path, {**PAIR, "chosen": [{**GOOD, **more}]})[0][0].chosen == GOOD["content"]


# ---------------------------------------------------------------- JSON text
ASKED = {"question": "Give me an object.", "chosen": '{"reply": "a b"}', "rejected": '{"reply": "c d"}'}


@pytest.mark.parametrize(
    "text", ['["a b", "c d"]', '{"reply": "a b"}', '[{"a": 1}]', "[{'role': 'user', 'content': 'a'}\n {'role'"]
)
def test_json_that_is_no_turns_is_not_trained_on_letter_by_letter(tmp_path: Path, text: str) -> None:
    error = refused(tmp_path, {**ASKED, "chosen": text, "rejected": text + " "})
    assert error.code == "json_text"
    assert ("data.columns.text=chat" in str(error)) == ("role" not in text)


@pytest.mark.parametrize("text", ["[1, 2, 3]", "[1] says so", "{not json}", "7", "[]"])
def test_text_that_only_looks_like_json_and_numbers_are_answers(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, {**ASKED, "chosen": text, "rejected": "no"})[0][0].chosen == text


def test_json_is_an_answer_where_the_user_says_so_and_a_key_of_it_can_be_named(tmp_path: Path) -> None:
    error = refused(tmp_path, ASKED)
    assert loaded(tmp_path, ASKED, columns=Columns(text="chat"))[0][0].chosen == ASKED["chosen"]
    words = "data.columns.prompt=question data.columns.chosen=chosen.reply data.columns.rejected=rejected.reply"
    assert words in str(error)
    assert loaded(tmp_path, ASKED, columns=Columns(chosen="chosen.reply", rejected="rejected.reply"))[0][0].chosen == "a b"


def test_json_of_a_prompt_that_a_question_holds_stays_text_and_turns_never_do(tmp_path: Path) -> None:
    row = {"instruction": "Sort it.", "input": '["b", "a"]', "chosen": "a, b", "rejected": "b, a"}
    assert loaded(tmp_path, row)[0][0].prompt.text == 'Sort it.\n\n["b", "a"]'
    turns = {"prompt": "?", "chosen": json.dumps([TURN, GOOD]), "rejected": json.dumps([TURN, BAD])}
    pair = loaded(tmp_path, {**turns, "prompt": TURN["content"]}, columns=Columns(prompt="prompt"))[0][0]
    assert (list(pair.prompt.messages), pair.chosen) == ([TURN], GOOD["content"])


# ---------------------------------------------------------------- several values, objects, columns that are empty at first
def test_one_of_several_texts_is_chosen_by_its_position(tmp_path: Path) -> None:
    row = {"prompt": "Q:", "chosen": " a", "rejected": [" b", " c", " d"]}
    error = refused(tmp_path, row)
    assert error.code == "several_values"
    assert loaded(tmp_path, row, columns=typed(error))[0][0].rejected == " b"
    assert loaded(tmp_path, row, columns=Columns(rejected="rejected.-1"))[0][0].rejected == " d"


def test_an_answer_object_of_unknown_keys_is_named_with_its_keys(tmp_path: Path) -> None:
    row = {"question": "Why?", "chosen": {"reply": "a b", "why": "so it is"}, "rejected": {"reply": "c d", "why": "not so"}}
    error = refused(tmp_path, row)
    assert error.code == "answer_object"
    assert "chosen is an object with the keys reply, why" in str(error)
    assert loaded(tmp_path, row, columns=typed(error))[0][0].chosen == "a b"
    known = {**row, "chosen": {"why": "so it is", "answer": "a b"}, "rejected": {"why": "not so", "answer": "c d"}}
    error = refused(tmp_path, known)
    assert (error.code, "chosen.why would be lost" in str(error)) == ("ambiguous_columns", True)
    assert loaded(tmp_path, known, columns=typed(error))[0][0].chosen == "a b"


def test_columns_that_are_empty_in_the_first_rows_are_read_where_they_are_not(tmp_path: Path) -> None:
    rows: list[Row] = [{"messages": None, "system": None, "chosen": "a b", "rejected": "a c"}] * 2
    rows += [{"messages": [TURN], "system": None, "chosen": f"a {n}", "rejected": "a c"} for n in range(60)]
    rows += [{"messages": [TURN], "system": "Be brief.", "chosen": "a b", "rejected": "a c"}]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs, report = load_pairs(path, max_dropped=0.05)
    assert report.counts["empty_prompt"] == 2, "no prompt is made of what the answers share"
    assert list(pairs[0].prompt.messages) == [TURN]
    assert [turn["role"] for turn in pairs[-1].prompt.messages] == ["system", "user"]


@pytest.mark.parametrize("names", [("good", "bad"), ("winner", "loser"), ("a", "b")])
def test_a_prompt_column_beside_answers_of_unknown_names_is_answered_with_the_mapping(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    row = {"prompt": "Q: late?", names[0]: " No, it is not.", names[1]: " Yes, it is."}
    error = refused(tmp_path, row)
    assert typed(error) == Columns(prompt="prompt", chosen=names[0], rejected=names[1])
    assert loaded(tmp_path, row, columns=typed(error))[0][0].rejected == " Yes, it is."


def test_a_column_that_says_in_each_row_which_answer_is_better_is_named_beside_the_mapping(tmp_path: Path) -> None:
    row = {"prompt": "Q: late?", "response_0": "No, not.", "response_1": "Yes, it is.", "better_response_id": 0}
    said = str(refused(tmp_path, row))
    assert "data.columns.chosen=response_0 data.columns.rejected=response_1" in said
    assert "better_response_id may say which answer is better in each row, and that is not read" in said


@pytest.mark.parametrize("word", ["reply", "text", "summary", "translation", "solution", "candidate", "message", "answer"])
def test_two_answers_that_are_told_apart_by_a_number_are_not_taken_for_the_prompt(tmp_path: Path, word: str) -> None:
    row = {"topic": "Whether it is late.", f"{word}_1": "No, it is not.", f"{word}_2": "Yes, it is."}
    assert typed(refused(tmp_path, row)) == Columns(prompt="topic", chosen=f"{word}_1", rejected=f"{word}_2")
