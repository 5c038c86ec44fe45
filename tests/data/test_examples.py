"""What is taken of a file's rows: pairs for a pairwise loss, or labels and ranked lists as they are."""

import json
from pathlib import Path

import pytest

from dpo_lab.data.columns import Columns
from dpo_lab.data.load import load_examples, load_pairs
from dpo_lab.data.problems import DataError, Report, RowProblem
from dpo_lab.data.reader import RowReader
from dpo_lab.records import Candidates, Example, Label, PreferencePair
from tests.data.conversations import CHOSEN, PROMPT, REJECTED, WHOLE, Row, turn

WHY = [turn("user", "Why is the sky blue?")]


def label(completion: str, desirable: bool) -> Row:
    return {"prompt": WHY, "completion": [turn("assistant", completion)], "label": desirable}


def ranked(*ranks: float, texts: str = "abcdef") -> Row:
    answers = [{"rank": rank, "completion": [turn("assistant", text)]} for rank, text in zip(ranks, texts, strict=False)]
    return {"context": WHY, "completions": answers}


def written(directory: Path, *rows: Row) -> Path:
    path = directory / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def as_they_are(directory: Path, *rows: Row) -> tuple[list[Example], Report]:
    return load_examples(written(directory, *rows), lambda example: example, max_dropped=1.0)


def read(row: Row) -> Example:
    return RowReader.for_rows(row, Columns()).read(row)


def test_a_row_of_one_labelled_answer_is_a_label_in_text_and_in_turns() -> None:
    label = read({"prompt": "Is it late?", "completion": " It is.", "label": True})
    assert isinstance(label, Label)
    assert (label.prompt.text, label.prompt.rendered, label.response, label.desirable) == ("Is it late?", True, " It is.", True)
    turns: Row = {"prompt": PROMPT, "completion": CHOSEN, "label": False}
    conversational = read(turns)
    assert isinstance(conversational, Label)
    assert list(conversational.prompt.messages) == PROMPT
    assert (conversational.prompt.rendered, conversational.desirable) == (False, False)
    assert read({**turns, "completion": WHOLE}) == conversational
    assert isinstance(read({**turns, "chosen": WHOLE, "rejected": [*PROMPT, *REJECTED]}), PreferencePair)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"label": "yes"}, "wrong_type"),
        ({"completion": [turn("user", "Else?"), *CHOSEN]}, "prompt_mismatch"),
        ({"prompt": "Is it late?"}, "wrong_type"),
    ],
    ids=["a word as label", "another prompt", "text and turns"],
)
def test_a_labelled_row_that_is_written_wrongly_is_refused_with_its_code(change: Row, code: str) -> None:
    turns: Row = {"prompt": PROMPT, "completion": CHOSEN, "label": False}
    reader = RowReader.for_rows(turns, Columns())
    with pytest.raises(RowProblem) as caught:
        reader.read({**turns, **change})
    assert caught.value.code == code
    del turns["label"]
    with pytest.raises(RowProblem, match="no 'label' among the columns prompt, completion"):
        reader.read(turns)


def test_labels_are_read_and_validated_for_a_loss_that_takes_them(tmp_path: Path) -> None:
    rows = [label("Light scatters.", True), label(" The sea. ", False), label("  ", True), label("The sea.", False)]
    labels, report = as_they_are(tmp_path, *rows, label("The sea.", True))
    assert all(isinstance(each, Label) for each in labels)
    assert [(each.row, *each.responses) for each in labels] == [
        (1, "Light scatters."),
        (2, "The sea."),
        (4, "The sea."),
        (5, "The sea."),
    ]
    assert report.counts == {"empty_response": 1, "outer_whitespace": 1, "duplicate_row": 1, "contradiction": 1}
    assert report.lines()[0] == "rows.jsonl: 5 rows, 4 labels, 1 left out"


def test_a_pairwise_loss_refuses_labels_and_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_pairs(written(tmp_path, label("Light scatters.", True)), max_dropped=1.0)
    assert caught.value.code == "unpaired_labels"
    said = str(caught.value)
    assert "row 1: the rows label single answers, and a pairwise loss needs pairs" in said
    assert "'Light scatters.' is labelled as desirable" in said
    assert "two answers to the same prompt, chosen and rejected" in said


def test_a_ranked_list_is_the_pair_of_its_best_and_worst_or_the_whole_list_by_what_is_taken(tmp_path: Path) -> None:
    rows = [ranked(2, 0, 1), ranked(1, 0)]
    lists, report = as_they_are(tmp_path, *rows)
    assert all(isinstance(one_list, Candidates) for one_list in lists)
    assert [one_list.responses for one_list in lists] == [("b", "c", "a"), ("b", "a")]
    assert "answers_left_out" not in report.counts
    assert report.lines()[0] == "rows.jsonl: 2 rows, 2 ranked lists"

    pairs, report = load_pairs(tmp_path / "rows.jsonl", max_dropped=0.0)
    assert all(isinstance(pair, PreferencePair) for pair in pairs)
    assert [(pair.chosen, pair.rejected, pair.score_chosen, pair.score_rejected) for pair in pairs] == [
        ("b", "a", 0.0, -2.0),
        ("b", "a", 0.0, -1.0),
    ]
    assert report.counts == {"answers_left_out": 1, "duplicate_row": 1}


def test_a_ranked_list_without_an_order_or_of_one_text_is_left_out(tmp_path: Path) -> None:
    lists, report = as_they_are(tmp_path, ranked(1, 1, 1), ranked(0, 1, 2, texts="aaa"), ranked(0, 1, 1))
    assert [one_list.row for one_list in lists] == [3]
    assert report.counts == {"chosen_equals_rejected": 1, "tie": 1}
