"""Facts about data.columns: what a mapping reads, where it works, what it leaves out, and what is refused of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.data.columns import ABSENT, Columns, value_at
from dpo_lab.data.load import load_pairs
from dpo_lab.data.problems import DataError
from dpo_lab.data.sources import FilePairs, HubPairs
from tests.data.hub_directories import written

Row = dict[str, Any]
MAPPING = Columns(
    prompt="ask.turns", system="who", chosen="best.0", rejected="worst", score_chosen="s.up", score_rejected="s.down"
)


def row(number: int, **more: Any) -> Row:
    return {
        "ask": {"turns": [{"role": "user", "content": f"Question {number}?"}], "other": "some words"},
        "who": "Be brief.",
        "best": ["good one", "second one"],
        "worst": [{"role": "assistant", "content": "bad one"}],
        "s": {"up": 2, "down": 1.5},
        "prompt": "left out of it",
        "images": [],
        **more,
    }


def refused(data: FilePairs) -> DataError:
    with pytest.raises(DataError) as caught:
        data.load()
    assert "\n" not in str(caught.value)
    return caught.value


def file_of(tmp_path: Path, *rows: Row) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


@pytest.mark.parametrize("kind", ["file", "directory", "hub"])
@pytest.mark.usefixtures("library_cache")
def test_a_mapping_reads_names_paths_and_positions_of_a_file_a_directory_and_a_hub_data_set(tmp_path: Path, kind: str) -> None:
    rows = [{**row(number), "worst": "bad one"} for number in range(6)]
    path = file_of(tmp_path, *rows) if kind == "file" else written(tmp_path / "set", {"train.jsonl": rows})
    data = HubPairs(path=str(path), splits=("train",), columns=MAPPING, held_out=0) if kind == "hub" else None
    (given,) = (data or FilePairs(path=path, columns=MAPPING, held_out=0)).load()
    pair = given.train[3]
    assert list(pair.prompt.messages) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Question 3?"},
    ]
    assert (pair.chosen, pair.rejected, pair.score_chosen, pair.score_rejected) == ("good one", "bad one", 2.0, 1.5)
    assert "columns not read: ['prompt']" in given.notes[-1]
    assert given.notes[1].startswith("  read: prompt=ask.turns, ")


def test_a_mapping_is_part_of_the_id(tmp_path: Path) -> None:
    path = file_of(tmp_path, row(1))
    contents = [FilePairs(path=path, columns=columns).content() for columns in (Columns(), MAPPING, Columns(text="chat"))]
    assert len({json.dumps(content, sort_keys=True) for content in contents}) == 3
    assert FilePairs(path=path, columns=Columns(text="chat")).content() == contents[2]


def test_roles_that_are_not_named_keep_their_known_columns(tmp_path: Path) -> None:
    path = file_of(
        tmp_path, {"talk": "Why is it?", "chosen": "So it is.", "rejected": "Not so.", "score_chosen": 2, "more": "left out"}
    )
    pair = load_pairs(path, max_dropped=0.0, columns=Columns(prompt="talk"))[0][0]
    assert (pair.prompt.text, pair.chosen, pair.score_chosen, pair.prompt.rendered) == ("Why is it?", "So it is.", 2.0, False)


def test_a_named_prompt_is_the_whole_prompt_and_known_parts_stay_beside_a_known_one(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"system": "Be brief.", "instruction": "Why?", "input": "It.", "good": "So.", "bad": "No."})
    named = load_pairs(path, max_dropped=0.0, columns=Columns(prompt="instruction", chosen="good", rejected="bad"))
    assert [turn["content"] for turn in named[0][0].prompt.messages] == ["Why?"]
    assert named[1].unread_columns == ("system", "input")
    known = load_pairs(path, max_dropped=0.0, columns=Columns(chosen="good", rejected="bad"))
    assert [turn["content"] for turn in known[0][0].prompt.messages] == ["Be brief.", "Why?\n\nIt."]


@pytest.mark.parametrize(("text", "rendered"), [(None, True), ("plain", True), ("chat", False)])
def test_text_of_a_column_called_prompt_is_plain_unless_it_is_said_to_be_chat(tmp_path: Path, text: Any, rendered: bool) -> None:
    path = file_of(tmp_path, {"prompt": "Why is it?", "chosen": "So it is.", "rejected": "Not so."})
    assert load_pairs(path, max_dropped=0.0, columns=Columns(text=text))[0][0].prompt.rendered is rendered


@pytest.mark.parametrize(("text", "rendered"), [(None, False), ("plain", True), ("chat", False)])
def test_text_of_another_column_is_chat_unless_it_is_said_to_be_plain(tmp_path: Path, text: Any, rendered: bool) -> None:
    path = file_of(tmp_path, {"question": "Why is it?", "chosen": "So it is.", "rejected": "Not so."})
    assert load_pairs(path, max_dropped=0.0, columns=Columns(prompt="question", text=text))[0][0].prompt.rendered is rendered


@pytest.mark.parametrize(
    ("role", "path", "meant"),
    [("prompt", "ask.turn", "ask.turns"), ("chosen", "bset", "best"), ("rejected", "worst.0.contents", "worst")],
)
def test_a_column_that_does_not_exist_is_refused_with_the_nearest_name(tmp_path: Path, role: str, path: str, meant: str) -> None:
    fields: dict[str, Any] = {"prompt": "ask.turns", "chosen": "best.0", "rejected": "worst", role: path}
    error = refused(FilePairs(path=file_of(tmp_path, row(1)), columns=Columns(**fields)))
    assert error.code == "no_column"
    assert f"data.columns.{role}={path}: " in str(error)
    assert f"Did you mean data.columns.{role}={meant}" in str(error)


def test_a_column_like_none_is_answered_with_the_role_or_with_the_list_alone(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"prompt": "Why?", "better": "So.", "worse": "No."})
    assert "Did you mean data.columns.prompt=prompt?" in str(refused(FilePairs(path=path, columns=Columns(prompt="frage"))))
    said = str(refused(FilePairs(path=path, columns=Columns(chosen="xyz", rejected="worse"))))
    assert said.endswith("it has prompt, better, worse. Name one of these as data.columns.chosen=COLUMN")


def test_a_column_that_only_some_rows_have_is_missing_there(tmp_path: Path) -> None:
    rows = [row(number, worst="bad one") for number in (1, 2, 3)]
    path = file_of(tmp_path, rows[0], {**rows[1], "best": []}, {name: rows[2][name] for name in rows[2] if name != "best"})
    with pytest.raises(DataError, match=r"2 of 3 rows cannot be used(?s:.*)row 2: no 'best.0'(?s:.*)row 3: no 'best.0'"):
        load_pairs(path, max_dropped=1.0, columns=MAPPING)


TURNS = [{"role": "user", "content": "Why?"}]
WITHOUT_EFFECT: list[tuple[Row, Columns, str]] = [
    (
        {"chosen": [*TURNS, {"role": "assistant", "content": "a"}], "rejected": [*TURNS, {"role": "assistant", "content": "b"}]},
        Columns(text="chat"),
        "text",
    ),
    ({"prompt": TURNS, "chosen": "a", "rejected": "b"}, Columns(text="plain"), "text"),
    ({"prompt": "Q:", "who": "Be.", "chosen": "a", "rejected": "b"}, Columns(system="who", text="plain"), "system"),
    ({"chosen": "Q: a", "rejected": "Q: b"}, Columns(text="chat"), "text"),
]


@pytest.mark.parametrize(("row", "columns", "key"), WITHOUT_EFFECT)
def test_a_setting_without_effect_is_refused(tmp_path: Path, row: Row, columns: Columns, key: str) -> None:
    error = refused(FilePairs(path=file_of(tmp_path, row), columns=columns))
    assert error.code == "no_effect"
    assert f"data.columns.{key}={getattr(columns, key)} has no effect" in str(error)


def test_a_path_leads_through_objects_lists_and_json_text_and_a_dotted_name_is_a_name_first() -> None:
    row = {"a.b": 1, "a": {"b": 2, "c.d": 5}, "l": [{"x": 3}, {"x": 4}], "j": '{"k": ["v"]}'}
    found = [value_at(row, path) for path in ("a.b", "l.1.x", "l.-1.x", "j.k.0")]
    assert found == [1, 4, 4, "v"]
    assert all(value_at(row, path) is ABSENT for path in ("a.z", "l.2", "l.x", "none", "none.b", "j.k.0.1", "a.b.c"))
