"""Files of answers that were made elsewhere: which columns are read, what is refused, and what is left out and counted."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.data.answers.columns import AnswerColumns
from dpo_lab.data.answers.files import AnswerFiles
from dpo_lab.data.problems import DataError, Report
from dpo_lab.drawn import Drawn
from dpo_lab.records import Candidates, Prompt, write_jsonl

Row = dict[str, Any]


KNOWN = AnswerColumns()


def read(path: Path, columns: AnswerColumns = KNOWN, max_dropped: float = 0.05) -> tuple[list[Candidates], Report]:
    reports: list[Report] = []
    found = list(AnswerFiles(path=path, columns=columns, max_dropped=max_dropped).read(reports))
    return found, reports[0]


def written(path: Path, *rows: Row) -> Path:
    write_jsonl(path, rows)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


TURNS = [{"role": "user", "content": "Why?"}]
SHAPES: dict[str, Row] = {
    "prompt and responses": {"prompt": "Why?", "responses": ["So.", "No."]},
    "instruction and completions": {"instruction": "Why?", "input": "", "completions": ["So.", "No."]},
    "question and a list of answers in JSON text": {"question": "Why?", "answers": '["So.", "No."]'},
    "turns": {"messages": TURNS, "outputs": ["So.", "No."], "model": "gpt-4"},
    "turns after the prompt's": {"prompt": "Why?", "candidates": [[*TURNS, {"role": "assistant", "content": "So."}], "No."]},
    "one output that is a list": {"instruction": "Why?", "output": ["So.", "No."]},
    "Snorkel": {"prompt": "Why?", "all_generated_responses": ["So.", "No."], "chosen": [], "all_rm_scores": [1, 2]},
    "distilabel": {"instruction": "Why?", "generations": ["So.", "No."], "generation_models": ["a", "b"]},
    "objects": {"prompt": "Why?", "completions": [{"model": "a", "completion": "So."}, {"model": "b", "completion": "No."}]},
    "numbered": {"prompt": "Why?", "answer_1": "So.", "answer_2": "No.", "model_1": "a"},
    "numbered without a line": {"instruction": "Why?", "response1": "So.", "response2": "No."},
    "lettered": {"prompt": "Why?", "completion_a": "So.", "completion_b": "No.", "model_a": "x"},
    "conversations": {
        "conversation_a": [*TURNS, {"role": "assistant", "content": "So."}],
        "conversation_b": [*TURNS, {"role": "assistant", "content": "No."}],
    },
    "vLLM": {"prompt": "Why?", "outputs": [{"index": 0, "text": text, "finish_reason": "stop"} for text in ("So.", "No.")]},
    "choices": {"messages": TURNS, "choices": [{"message": {"role": "assistant", "content": text}} for text in ("So.", "No.")]},
    "an object with a text for each model": {"question": "Why?", "responses": {"gpt": "So.", "mistral": "No."}},
    "a list as Python writes it": {"question": "Why?", "answers": "['So.', 'No.']"},
    "capitals and spaces": {"Prompt": "Why?", "Response 1": "So.", "Response 2": "No."},
    "a transcript": {"prompt": "\n\nHuman: Why?\n\nAssistant: ", "answers": ["So.", "No."]},
}


@pytest.mark.parametrize("row", SHAPES.values(), ids=SHAPES)
def test_a_row_in_a_shape_that_public_tools_write_is_a_prompt_with_its_answers(row: Row, file: Path) -> None:
    (found,), _ = read(written(file, row))
    assert found.prompt == Prompt.from_text("Why?")
    assert found.responses == ("So.", "No.")
    assert (found.source, found.row) == ("answers.jsonl", 1)


def test_input_system_and_history_belong_to_the_prompt(file: Path) -> None:
    row = {"instruction": "Sort.", "input": "b a", "system": "Be brief.", "history": [["Hi", "Hello"]], "outputs": ["a b", "b"]}
    (found,), report = read(written(file, row))
    turns = [(turn["role"], turn["content"]) for turn in found.prompt.messages]
    assert turns == [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Sort.\n\nb a")]
    assert report.notes == ("read: prompt=instruction, input=input, history=history, system=system, responses=outputs",)


LABELS: dict[str, tuple[Row, tuple[int, ...]]] = {
    "1 or 2": ({"output_1": "So.", "output_2": "No.", "label": 2}, (1,)),
    "three people": ({"response1": "So.", "response2": "No.", "annotator1": 2, "annotator2": 2, "annotator3": 0}, (1,)),
    "three people of three minds": (
        {"response1": "So.", "response2": "No.", "annotator1": 1, "annotator2": 2, "annotator3": 0},
        (0, 1),
    ),
    "a tie": ({"response1": "So.", "response2": "No.", "annotator1": 0}, (0, 1)),
    "in words": ({"completion_a": "So.", "completion_b": "No.", "preference": "b-is-slightly-better"}, (1,)),
    "a winner": ({"answer_a": "So.", "answer_b": "No.", "winner": "model_a"}, (0,)),
    "between 1 and 2": ({"output_1": "So.", "output_2": "No.", "preference": 1.9, "annotator": "gpt4_turbo"}, (1,)),
    "0 or 1": ({"response_0": "So.", "response_1": "No.", "better_response_id": 0, "safer_response_id": 1}, (0,)),
    "0 where answers have letters": ({"output_A": "So.", "output_B": "No.", "label": 0}, ()),
}


@pytest.mark.parametrize(("row", "preferred"), LABELS.values(), ids=LABELS)
def test_a_label_says_which_answer_is_preferred(row: Row, preferred: tuple[int, ...], file: Path) -> None:
    (found,), report = read(written(file, {"prompt": "Why?", **row}))
    assert found.preferred == preferred
    assert bool(preferred) != ("label" in report.unread_columns)


def test_labelled_pairs_come_in_an_order_that_says_nothing(file: Path) -> None:
    rows = [{"question": f"Why {number}?", "chosen": "So.", "rejected": "No."} for number in range(40)]
    found, _ = read(written(file, *rows))
    assert all(each.responses[each.preferred[0]] == "So." for each in found)
    assert 10 < sum(each.preferred == (0,) for each in found) < 30


REFUSED: dict[str, tuple[Row, list[str]]] = {
    "two lists": (
        {"prompt": "Why?", "responses": ["a", "b"], "outputs": ["c", "d"]},
        ["prompt, responses, outputs", "candidates.columns.responses=responses; or candidates.columns.responses=outputs"],
    ),
    "a list beside numbered answers": (
        {"prompt": "Why?", "answers": ["a", "b"], "output_1": "c", "output_2": "d"},
        ["candidates.columns.responses=answers; or 'candidates.columns.responses=[output_1,output_2]'"],
    ),
    "two labels": (
        {"prompt": "Why?", "output_1": "c", "output_2": "d", "label": 1, "preference": 2},
        ["label, preference", "candidates.columns.preferred=label; or candidates.columns.preferred=preference"],
    ),
    "a column that may belong to the prompt": (
        {"prompt": "Why?", "persona": "You are a sailor.", "answers": ["a", "b"]},
        ["persona", "candidates.columns.responses=answers"],
    ),
    "no prompt": ({"kind": "x", "answers": ["a", "b"]}, ["candidates.columns.prompt=NAME"]),
    "one answer a row": (
        {"instruction": "Why?", "output": "a"},
        ["output holds one answer", "responses=NAME"],
    ),
    "objects with several texts": (
        {"prompt": "Why?", "completions": [{"text": "a", "answer": "b"}, {"text": "c", "answer": "d"}]},
        ["text, answer", "candidates.columns.responses=completions.KEY"],
    ),
    "tools": ({"prompt": "Why?", "answers": ["a", "b"], "tools": "[{}, 1]"}, ["tools"]),
}


@pytest.mark.parametrize(("row", "said"), REFUSED.values(), ids=REFUSED)
def test_what_can_be_read_in_no_way_or_in_several_is_refused_with_the_words_to_type(
    row: Row, said: list[str], file: Path
) -> None:
    with pytest.raises(DataError) as refused:
        read(written(file, row))
    assert all(words in str(refused.value) for words in said), refused.value
    assert "\n" not in str(refused.value)


def test_columns_that_are_named_decide_and_others_are_left_out(file: Path) -> None:
    row = {"frage": "Why?", "persona": "You are a sailor.", "a": {"text": "So."}, "b": {"text": "No."}, "best": "b.text"}
    columns = AnswerColumns(prompt="frage", responses=("a.text", "b.text"), preferred="best")
    (found,), _ = read(written(file, row), columns)
    assert (found.prompt.text, found.responses, found.preferred) == ("Why?", ("So.", "No."), (1,))


def test_a_key_of_every_object_in_a_list_can_be_named(file: Path) -> None:
    row = {
        "prompt": "Why?",
        "tries": [{"text": "So.", "thought": "I think."}, {"text": "No.", "thought": "Or not."}],
        "gold": 1,
    }
    (found,), _ = read(written(file, row), AnswerColumns(responses="tries.text", preferred="gold"))
    assert (found.responses, found.preferred) == (("So.", "No."), (1,))


@pytest.mark.parametrize("role", ["responses", "prompt", "preferred"])
def test_a_named_column_that_is_nowhere_is_refused_with_those_there_are(role: str, file: Path) -> None:
    named: dict[str, Any] = {role: "nope"}
    with pytest.raises(DataError, match=f"candidates.columns.{role}=nope: .* has no such column; it has prompt, answers"):
        read(written(file, {"prompt": "Why?", "answers": ["a", "b"]}), AnswerColumns(**named))


def test_rows_that_give_nothing_to_compare_are_left_out_and_counted(file: Path) -> None:
    rows: list[Row] = [
        {"prompt": "Why?", "answers": ["a", "b", " "]},
        {"prompt": "Why?", "answers": ["a", "c"]},
        {"prompt": "One?", "answers": ["a"]},
        {"prompt": "None?", "answers": []},
        {"prompt": "Equal?", "answers": ["a", "a "]},
    ]
    found, report = read(written(file, *rows), max_dropped=0)
    assert [(each.prompt.text, each.responses) for each in found] == [("Why?", ("a", "b")), ("Why?", ("a", "c"))]
    assert report.counts == {"one_answer": 2, "equal_answers": 1, "unusable_answer": 1, "equal_prompt": 1}


def test_faulty_rows_are_left_out_up_to_a_limit(file: Path) -> None:
    good = [{"prompt": f"Why {number}?", "answers": ["a", "b"]} for number in range(8)]
    written(file, *good, {"prompt": " ", "answers": ["a", "b"]}, {"prompt": "Why?", "answers": [True, "b"]})
    with pytest.raises(DataError, match=r"2 of 10 rows \(20.0%\) cannot be used.*candidates.max_dropped=0.2$"):
        read(file)
    found, report = read(file, max_dropped=0.2)
    assert len(found) == 8
    assert report.counts == {"wrong_type": 1, "empty_prompt": 1}


def test_a_prompt_that_does_not_end_with_the_user_is_left_out(file: Path) -> None:
    good = [{"messages": TURNS, "answers": ["a", "b"]} for _ in range(8)]
    ended = [*TURNS, {"role": "assistant", "content": "So."}]
    found, report = read(written(file, *good, {"messages": ended, "answers": ["a", "b"]}), max_dropped=0.2)
    assert len(found) == 8
    assert report.counts == {"bad_roles": 1, "equal_prompt": 7}


@pytest.mark.parametrize("name", ["answers.csv", "ANSWERS.CSV"])
def test_a_csv_file_is_read_with_commas_and_line_ends_in_its_fields(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([["prompt", "output_1", "output_2", "label"], ["Why,\nso?", "So.", 'He said "no".', "1"]])
    (found,), _ = read(path)
    assert (found.prompt.text, found.responses, found.preferred) == ("Why,\nso?", ("So.", 'He said "no".'), (0,))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"prompt,answers\nWhy?,a,b\n", "row 1 has 3 fields and the first line names 2 columns"),
        (b"prompt,prompt\na,b\n", "two columns 'prompt'"),
        (b"prompt,answers\n", "no rows"),
        (b"", "no rows"),
        (b"prompt,answers\n\xff,a\n", "not UTF-8: it holds 0xFF"),
        (b'prompt,answers\n"a"b,c\n', "not valid CSV"),
    ],
)
def test_a_csv_file_that_cannot_be_read_is_refused_in_one_line(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        read(path)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_parquet_file_is_read_as_the_same_rows_of_json(tmp_path: Path, file: Path) -> None:
    from pyarrow import Table, parquet

    rows = [{"prompt": f"Why {at}?", "answers": ["No.", "So it is."], "scores": None if at else [1.0, 2.0]} for at in range(300)]
    parquet.write_table(Table.from_pylist(rows), tmp_path / "answers.parquet")
    written(file, *rows)
    found, expected = (read(path)[0] for path in (tmp_path / "answers.parquet", file))
    assert [replace(each, source="") for each in found] == [replace(each, source="") for each in expected]
    content = (tmp_path / "answers.parquet").read_bytes()
    for broken in (content[:-9], b"PAR1 and no more", b""):
        (tmp_path / "answers.parquet").write_bytes(broken)
        with pytest.raises(DataError, match=r"^\S+answers\.parquet (cannot be read as parquet whole \(|is empty)") as refused:
            read(tmp_path / "answers.parquet")
        assert "\n" not in str(refused.value)


def test_answers_that_were_sampled_here_keep_their_tokens(file: Path) -> None:
    drawn = (Drawn.of([5, 1], [-0.5, -2.0]), Drawn.of([7], [-1.0]))
    sampled = Candidates(
        prompt=Prompt.from_text("Why?"), responses=(" so", ""), finished=(True, False), drawn=drawn, scores=(1.0, 2.0)
    )
    written(file, {**sampled.to_record(), "model": "m", "seed": 3, "sampling": {"top_p": 1.0}})
    (found,), _ = read(file)
    assert (found.responses, found.finished, found.drawn, found.scores) == ((" so", ""), (True, False), drawn, ())


def test_a_directory_is_the_files_in_it_each_with_its_own_columns(tmp_path: Path) -> None:
    written(tmp_path / "b.jsonl", {"prompt": "Why?", "answers": ["a", "b"]})
    (tmp_path / "a.json").write_text(json.dumps([{"instruction": "How?", "output_1": "c", "output_2": "d"}]))
    (tmp_path / "notes.txt").write_text("no rows")
    reports: list[Report] = []
    found = list(AnswerFiles(path=tmp_path).read(reports))
    assert [(each.prompt.text, each.source) for each in found] == [("How?", "a.json"), ("Why?", "b.jsonl")]
    assert [report.file for report in reports] == ["a.json", "b.jsonl"]


def test_answers_that_are_still_being_drawn_are_not_ranked(tmp_path: Path) -> None:
    path = written(tmp_path / "candidates.jsonl", {"prompt": "Why?", "answers": ["a", "b"]})
    (tmp_path / "begun.json").write_text("{}")
    for place in (tmp_path, path):
        with pytest.raises(DataError, match=r"is unfinished.*Run that command again"):
            read(place)


def test_the_content_of_files_counts_and_not_their_place(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        written(tmp_path / name / "a.jsonl", {"prompt": "Why?", "answers": ["a", "b"]})
    first, second = AnswerFiles(path=tmp_path / "one"), AnswerFiles(path=tmp_path / "other" / "a.jsonl", max_dropped=0.5)
    assert first.content() == second.content()
    written(tmp_path / "one" / "a.jsonl", {"prompt": "Why?", "answers": ["a", "c"]})
    assert first.content() != second.content()


@pytest.mark.parametrize(("name", "said"), [("nope.json", "does not exist"), ("empty", "holds no"), ("a.txt", "ends in")])
def test_what_is_no_file_of_answers_is_refused(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("Why?")
    with pytest.raises(DataError, match=f"{said}.*candidates.path"):
        read(tmp_path / name)
