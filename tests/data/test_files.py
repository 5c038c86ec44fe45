"""Facts about reading rows: what a file may look like, and what is said about one that cannot be read."""

from pathlib import Path

import pytest

from dpo_lab.data.files import Rows
from dpo_lab.data.problems import DataError

ROW = '{"prompt": "Q: 1 + 1?\\nA:", "chosen": " 2", "rejected": " 3"}'


def written(tmp_path: Path, content: str | bytes, name: str = "pairs.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        list(Rows(path))
    return caught.value


def test_row_numbers_of_json_lines_are_lines_of_the_file(tmp_path: Path) -> None:
    rows = list(Rows(written(tmp_path, f"\n{ROW}\r\n\n{ROW}")))
    assert [number for number, _ in rows] == [2, 4]


def test_row_numbers_of_a_list_are_positions(tmp_path: Path) -> None:
    rows = list(Rows(written(tmp_path, f"[\n\n{ROW},\n\n\n{ROW}]", "pairs.json")))
    assert [number for number, _ in rows] == [1, 2]


@pytest.mark.parametrize(("content", "name"), [(f"{ROW}\n{ROW}\n", "lines.json"), (f"[{ROW}, {ROW}]", "list.jsonl")])
def test_content_and_not_the_suffix_tells_a_list_from_lines(tmp_path: Path, content: str, name: str) -> None:
    assert len(list(Rows(written(tmp_path, content, name)))) == 2


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    assert next(iter(next(iter(Rows(written(tmp_path, b"\xef\xbb\xbf" + ROW.encode()))))[1])) == "prompt"


def test_a_unicode_line_separator_inside_text_does_not_end_a_line(tmp_path: Path) -> None:
    rows = list(Rows(written(tmp_path, '{"prompt": "one\u2028two\u0085three"}\n{"prompt": "four"}')))
    assert [row["prompt"] for _, row in rows] == ["one\u2028two\u0085three", "four"]


def test_columns_may_be_absent_from_some_rows(tmp_path: Path) -> None:
    rows = list(Rows(written(tmp_path, ROW + "\n" + ROW.replace("}", ', "score_chosen": 2}'))))
    assert "score_chosen" in rows[1][1]


def test_bytes_that_are_not_utf8_are_named_and_never_replaced(tmp_path: Path) -> None:
    # Line 1 is 12 bytes with its newline; "caf" begins 12 bytes into line 2, so the byte E9 has offset 12 + 15.
    path = written(tmp_path, b'{"a": "ok"}\n' + '{"prompt": "café"}'.encode("latin-1"))
    error = refused(path)
    assert error.code == "bad_encoding"
    assert str(path) in str(error)
    assert "line 2 holds 0xE9 at byte offset 27" in str(error)


def test_a_cut_line_is_named(tmp_path: Path) -> None:
    error = refused(written(tmp_path, f"{ROW}\n{ROW[:30]}"))
    assert error.code == "bad_json"
    assert "line 2" in str(error)


def test_a_syntax_error_inside_a_list_is_named_by_line(tmp_path: Path) -> None:
    error = refused(written(tmp_path, f"[\n{ROW},\n{ROW}\n{ROW}]", "pairs.json"))
    assert error.code == "bad_json"
    assert "line 4" in str(error)


@pytest.mark.parametrize("content", ["", "\n \n", "[]", "\ufeff"])
def test_a_file_without_rows_is_an_error(tmp_path: Path, content: str) -> None:
    assert refused(written(tmp_path, content)).code == "empty_file"


def test_an_object_around_the_rows_is_refused_by_its_key(tmp_path: Path) -> None:
    error = refused(written(tmp_path, f'{{"data": [{ROW}]}}', "pairs.json"))
    assert error.code == "bad_shape"
    assert "expected a list of objects, found an object with the key data" in str(error)


@pytest.mark.parametrize(("content", "row"), [(f"{ROW}\n[1, 2]", "row 2"), (f'[{ROW}, {ROW}, "text"]', "row 3")])
def test_a_row_that_is_no_object_is_named(tmp_path: Path, content: str, row: str) -> None:
    error = refused(written(tmp_path, content))
    assert error.code == "bad_shape"
    assert row in str(error)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.json"])
def test_nan_and_infinity_are_neither_json_nor_scores(tmp_path: Path, constant: str, name: str) -> None:
    bad = f'{{"prompt": "x", "scores": [1.0, {constant}]}}'
    content = f"{ROW}\n{bad}" if name == "pairs.jsonl" else f"[{ROW}, {bad}]"
    error = refused(written(tmp_path, content, name))
    assert error.code == "bad_score"
    assert f"row 2: scores[1] is {constant}" in str(error)


def test_the_word_nan_in_a_text_is_only_a_word(tmp_path: Path) -> None:
    assert list(Rows(written(tmp_path, '{"prompt": "NaN"}'))) == [(1, {"prompt": "NaN"})]


def test_rows_that_share_no_column_are_two_layouts(tmp_path: Path) -> None:
    error = refused(written(tmp_path, ROW + '\n{"question": "?", "response_j": "a", "response_k": "b"}'))
    assert error.code == "mixed_formats"
    assert "row 2 has the columns question, response_j, response_k" in str(error)


def test_a_git_lfs_pointer_is_recognised(tmp_path: Path) -> None:
    error = refused(written(tmp_path, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"))
    assert error.code == "lfs_pointer"
    assert "Git LFS pointer" in str(error)


def test_a_path_without_a_file_is_told_apart(tmp_path: Path) -> None:
    assert refused(tmp_path / "absent.jsonl").code == "no_file"


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.parquet", "pairs"])
def test_other_suffixes_are_answered_with_what_is_read(tmp_path: Path, name: str) -> None:
    error = refused(written(tmp_path, ROW, name))
    assert error.code == "unknown_suffix"
    assert ".jsonl and .json" in str(error)
