"""Facts about data sets that cannot be had: what is said, from a half download to the Hub's own refusals."""

import gzip
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.data.hub_messages import Origin, explained
from dpo_lab.data.problems import DataError
from dpo_lab.data.sources import HubPairs
from tests.data.fake_hub import COMMIT, NAME, FakeHub
from tests.data.hub_directories import SPLITS, card_of, refused, rows, scored_row, snorkel_style, written

pytestmark = pytest.mark.usefixtures("library_cache")

HALF = gzip.compress(json.dumps(rows(300)).encode())[:200]
FAULTY: dict[str, tuple[dict[str, Any], str, str]] = {
    "missing shard": ({"data/train-00000-of-00003.parquet": rows(2)}, "incomplete", "number 00001, 00002 are missing. Download"),
    "LFS pointer": ({"train.parquet": b"version https://git-lfs.github.com/spec/v1\noid"}, "lfs_pointer", "Run `git lfs pull`"),
    "cut parquet": ({"train.parquet": b"PAR1 and no more"}, "incomplete", "train.parquet is not a whole parquet file"),
    "cut line": ({"train.jsonl": b'{"prompt": "a"}\n{"prom'}, "bad_json", "train.jsonl line 2 is not valid JSON"),
    "cut archive": ({"train.jsonl.gz": HALF}, "unreadable", "EOFError"),
    "latin-1": ({"train.jsonl": '{"prompt": "café"}'.encode("latin-1")}, "bad_encoding", "line 1 holds 0xE9"),
    "no files": ({}, "no_data_files", "holds no data files"),
    "pictures": ({"train/a.png": b"x"}, "unknown_suffix", "would be read as imagefolder"),
    "script": ({"set.py": b"", "train.jsonl": rows(2)}, "script", "code that comes with data is never run"),
    "no rows": ({"train.jsonl": b"\n"}, "empty_file", "has no rows"),
    "other columns": ({"train.jsonl": [{"question": "?"}]}, "unknown_layout", "set/train.jsonl (split train) row 1: "),
    "prompts": ({"train.jsonl": [{"prompt": "?"}]}, "prompts_only", "data=on_policy"),
}


@pytest.mark.parametrize("case", FAULTY)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]) -> None:
    files, code, said = FAULTY[case]
    error = refused(written(tmp_path / "set", files))
    assert error.code == code
    assert said in str(error)
    assert capfd.readouterr() == ("", "")


def test_a_split_of_the_card_without_files_is_a_half_download(tmp_path: Path) -> None:
    error = refused(written(tmp_path / "set", {"data/train-0.parquet": rows(2)}, card_of("train", "test")))
    assert (error.code, "its card lists files or rows that are not there" in str(error)) == ("incomplete", True)


def test_splits_of_different_columns_are_no_table(tmp_path: Path) -> None:
    files = {"train.parquet": rows(2), "test.parquet": [scored_row(1, [1.0, 0.0])]}
    assert refused(written(tmp_path / "set", files)).code == "mixed_formats"


def test_fewer_rows_than_the_card_counts_are_a_half_download(tmp_path: Path) -> None:
    card = "dataset_info:\n  splits:\n  - name: train\n    num_bytes: 1\n    num_examples: 9\n"
    assert refused(written(tmp_path / "set", {"data/train-00000-of-00001.parquet": rows(2)}, card)).code == "incomplete"


def test_a_path_that_is_neither_directory_nor_id_is_refused_without_asking_anyone() -> None:
    error = refused("./no/such/directory")
    assert (error.code, "nor a Hub id, which is owner/name. Correct data.path." in str(error)) == ("no_data_set", True)


def test_a_full_disk_points_to_the_cache(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Point HF_HOME to a directory"), explained(Origin(path=str(tmp_path))):
        raise OSError(28, "No space left on device")


# ---------------------------------------------------------------- the Hub
@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    import datasets
    from huggingface_hub import constants

    server = FakeHub(snorkel_style(tmp_path / "served"))
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", server.url)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_data_set_of_the_hub_is_read_at_its_revision_and_then_without_a_connection(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import datasets

    data = HubPairs(path=NAME, revision=COMMIT, splits=SPLITS)
    one, two = data.load(rounds=2)
    assert (len(one.train), len(one.held_out), len(two.train)) == (10, 3, 10)
    assert one.notes[0] == f"owner/pairs at revision {COMMIT}"
    assert one.train[0].source == "pairs/data/train_iteration_1-00000-of-00001.parquet (split train_iteration_1)"
    asked = len(hub.asked)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    again = data.load()[0]
    assert len(hub.asked) == asked
    assert [pair.id for pair in again.train] == [pair.id for pair in one.train]
    other = "2" * 40
    error = refused(NAME, revision=other)
    assert error.code == "other_revision"
    assert f"holds revision {COMMIT} instead of data.revision={other}" in str(error)
    assert capfd.readouterr() == ("", "")


HUB_MESSAGES = {
    "nobody/nothing": ("no_data_set", "the Hub has no such data set, or a private one"),
    "gated/pairs": ("gated", "Accept the terms at https://huggingface.co/datasets/gated/pairs, then log in with `hf auth login`"),
    NAME: ("no_revision", "has no revision v9. Correct data.revision, or use data.revision=null"),
}


@pytest.mark.parametrize("name", HUB_MESSAGES)
@pytest.mark.usefixtures("hub")
def test_what_the_hub_refuses_is_said_with_what_to_do(name: str) -> None:
    code, said = HUB_MESSAGES[name]
    error = refused(name, revision="v9")
    assert error.code == code
    assert said in str(error)


def test_offline_without_a_copy_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    error = refused(NAME, revision=COMMIT)
    assert error.code == "offline"
    assert str(error) == (
        f"owner/pairs is not a directory, the cache (HF_HOME) has no complete copy at revision {COMMIT}, and "
        "HF_HUB_OFFLINE forbids a connection. Run once without HF_HUB_OFFLINE, or bring a copy: "
        f"`hf download owner/pairs --repo-type dataset --revision {COMMIT} --local-dir DIR` "
        "on a machine that has one, then data.path=DIR."
    )
