"""A path of rows that does not exist: what is meant by it is proposed."""

from pathlib import Path

import pytest

from dpo_lab.data.files import refuse_other_than_rows
from dpo_lab.data.problems import DataError


def said(path: str) -> str:
    """Return what is answered to a path."""
    with pytest.raises(DataError) as refused:
        refuse_other_than_rows(Path(path), "data.path")
    return str(refused.value)


@pytest.mark.parametrize(
    ("typed", "meant"),
    {
        "pair.jsonl": "pairs.jsonl",
        "Pairs.jsonl": "pairs.jsonl",
        "pairs.json": "pairs.jsonl",
        "dat/mine.jsonl": "data/mine.jsonl",
        "data/mein.jsonl": "data/mine.jsonl",
        "./pair.jsonl": "pairs.jsonl",
    }.items(),
)
def test_the_file_that_is_spelt_like_it_is_named(typed: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    for name in ("pairs.jsonl", "data/mine.jsonl", "notes.txt"):
        Path(name).write_text("{}")
    assert said(typed) == f"{Path(typed)} does not exist, so there are no rows to read. Did you mean 'data.path={meant}'?"


@pytest.mark.parametrize(
    ("typed", "remedy"),
    {
        "owner/name": "hf download owner/name --repo-type dataset --local-dir name, then data.path=name",
        "https://huggingface.co/datasets/owner/name/tree/main": "--local-dir name, then data.path=name",
        "https://example.org/some/rows.jsonl": "curl -LO https://example.org/some/rows.jsonl, then data.path=rows.jsonl",
        "*.txt": "A pattern is not read. A directory of files is; for one file write data.path=notes.txt",
        "rows.jsonl": "Correct data.path (now in ",
        "some/rows.jsonl": "Correct data.path (now in ",
        "/nowhere/name": "Correct data.path (now in ",
    }.items(),
)
def test_an_address_or_a_hub_id_is_answered_with_the_download(
    typed: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("")
    assert remedy in said(typed)
