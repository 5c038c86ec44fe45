"""A JSON list that is read in blocks gives what the whole text gives: the same items, the same faults at the same places."""

import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.data import json_list
from dpo_lab.data.files import Rows
from dpo_lab.data.json_list import items_of
from dpo_lab.data.problems import DataError

TEXT = '\ufeff [ {"a": "é\\u00e9\\n\\"]", "b": [1.25e-3, true, null]},\r\n\n{"c": "日本" } , -12345, "x", [],{}, 0 ] \n'


def blocks(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let the file be read in blocks of so many bytes."""
    monkeypatch.setattr(json_list, "BLOCK", size)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 4096])
def test_blocks_of_any_size_give_the_items_of_the_whole_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    blocks(monkeypatch, size)
    path = tmp_path / "list.json"
    path.write_text(TEXT, encoding="utf-8")
    assert [item for item, _ in items_of(path)] == json.loads(TEXT.removeprefix("\ufeff"))
    assert all(json.loads(text) == item for item, text in items_of(path))


def place_of(text: str) -> tuple[int, int] | None:
    """Return line and column of the first fault of a text as Python's reader of whole texts has them."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.lineno, error.colno
    return None


def found_at(path: Path) -> tuple[int, int] | None:
    """Return line and column of the first fault as reading in blocks has them."""
    try:
        list(items_of(path))
    except DataError as error:
        line, column = str(error).partition(" line ")[2].split(" ")[0], str(error).partition("at column ")[2].split(")")[0]
        return int(line), int(column)
    return None


def broken() -> list[str]:
    """Return a text cut at every place, and with a character taken out or put in at every place."""
    whole = '[\n{"a": "b\\u00e9", "c": [-1.5e3, true]},\n  {"d": null}\n]\n'
    cuts = [whole[:at] for at in range(1, len(whole))]
    without = [whole[:at] + whole[at + 1 :] for at in range(1, len(whole))]
    return [*cuts, *without, *(whole[:at] + sign + whole[at:] for at in range(1, len(whole)) for sign in ",x")]


@pytest.mark.parametrize("size", [3, 4096])
def test_a_fault_has_the_place_that_the_whole_text_gives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    blocks(monkeypatch, size)
    path = tmp_path / "list.json"
    for text in broken():
        path.write_text(text, encoding="utf-8")
        wanted = place_of(text)
        if wanted and sys.version_info >= (3, 13) and "Illegal trailing comma" in reason(text):
            continue  # 3.13 names the comma, and a reader that has passed it the bracket
        assert found_at(path) == wanted, text


def reason(text: str) -> str:
    """Return what Python's reader of whole texts says of a text's fault."""
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(text)
    return caught.value.msg


def test_a_fault_far_from_the_end_is_told_without_reading_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks(monkeypatch, 64)
    path = tmp_path / "list.json"
    path.write_text('[{"a": oops}, ' + '{"a": "' + "x" * 100_000 + '"}]')
    with path.open("rb") as file:
        window = json_list._Window(file)
        with pytest.raises(json.JSONDecodeError):
            list(window.items())
        assert file.tell() < 200


@pytest.mark.parametrize("ending", ['"text"]', "NaN]", '{"a": 1}] 2'])
def test_rows_before_a_fault_are_given_first(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "list.json"
    path.write_text('[{"a": 1}, {"a": 2}, ' + ending)
    rows = iter(Rows(path))
    assert [next(rows), next(rows)] == [(1, {"a": 1}), (2, {"a": 2})]
    with pytest.raises(DataError):
        list(rows)


def test_a_list_costs_its_blocks_and_not_its_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks(monkeypatch, 4096)

    def peak(count: int) -> int:
        path = tmp_path / f"{count}.json"
        path.write_text(
            json.dumps([{"prompt": f"question {number}", "chosen": "a" * 50, "rejected": "b"} for number in range(count)])
        )
        tracemalloc.start()
        try:
            assert sum(1 for _ in Rows(path)) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(10_000) < 1.2 * peak(1000)


def test_a_byte_that_is_not_utf_8_is_named_in_a_list_too(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_bytes(b'[\n{"a": "caf\xe9"}]')
    with pytest.raises(DataError, match="line 2 holds 0xE9 at byte offset 12 of the file"):
        list(Rows(path))


def lines(*rows: Any) -> str:
    """Return JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_a_json_file_of_lines_is_not_parsed_as_a_whole_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines.json"
    path.write_text(lines(*({"a": number} for number in range(100))))
    sizes, read = list[int](), json.loads

    def counted(text: str) -> Any:
        sizes.append(len(text))
        return read(text)

    monkeypatch.setattr(json, "loads", counted)
    assert len(list(Rows(path))) == 100
    assert max(sizes, default=0) < 20
