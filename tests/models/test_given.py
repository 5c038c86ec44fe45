"""A given model is known by the content of its files: every changed byte makes another model, and nothing else does."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from dpo_lab import damage
from dpo_lab.artifacts import Plan
from dpo_lab.components import RunError
from dpo_lab.data.base import GivenPairs
from dpo_lab.data.sources import FilePairs
from dpo_lab.durable_files import file_digest
from dpo_lab.models import given
from dpo_lab.models.given import RECORD, digests_of, forget, recorded_below
from dpo_lab.models.spec import PretrainedModel
from dpo_lab.pipeline.base_model import base_model
from dpo_lab.pipeline.tokens import token_store
from tests.models.directories import model_directory


def flip(path: Path, at: float = 0.9) -> None:
    """Change one bit in place and give the file its time back: name, size, inode and time of modification stay."""
    time.sleep(0.01)  # two changes within a tick of the system's clock have one time
    found, data = path.stat(), bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (found.st_size, found.st_mtime_ns)
    assert path.stat().st_ctime_ns != found.st_ctime_ns


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_directory(tmp_path / "model", "mistral")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files that are read, as they are."""
    names: list[str] = []
    digest = file_digest

    def noting(path: Path, advance: Any) -> str:
        names.append(path.name)
        return digest(path, advance)

    monkeypatch.setattr(given, "file_digest", noting)
    return names


def content(path: Path) -> dict[str, Any]:
    return PretrainedModel(path=str(path), licence="none").content()


def test_one_bit_of_any_file_is_another_model_also_where_size_and_time_are_the_same(model: Path) -> None:
    before = content(model)
    names = sorted(path.name for path in model.iterdir())
    assert {"config.json", "tokenizer.json", "model.safetensors.index.json", "tokenizer_config.json"} < set(names)
    for name in names:
        flip(model / name)
        changed = content(model)
        assert [each for each in names if changed["files"][each] != before["files"][each]] == [name]
        flip(model / name)
        assert content(model) == before


def test_a_copy_another_time_and_what_is_never_read_are_the_same_model(model: Path, tmp_path: Path) -> None:
    before = digests_of(model)
    os.utime(model / "config.json", ns=(0, 0))
    (model / "consolidated.safetensors").write_bytes(b"the same weights once more")
    (model / "pytorch_model.bin").write_bytes(b"and as a pickle")
    (model / "checked.json").write_text("{}")  # beside an artifact of ours
    assert digests_of(model) == before
    assert content(shutil.copytree(model, tmp_path / "copy")) == content(model)  # wherever it stands
    assert content(Path("own/one")) != content(Path("own/two")), "of a name on the Hub there is only the name"
    assert digests_of(tmp_path / "nothing") == {}


def test_a_process_reads_a_file_once_and_large_ones_are_looked_up_in_the_outputs(
    model: Path, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = sorted(path.name for path in model.iterdir() if path.stat().st_size < 10_000)
    large = sorted(path.name for path in model.iterdir() if path.name not in small)
    monkeypatch.setattr(damage, "ALWAYS", sum((model / name).stat().st_size for name in small))
    outputs = tmp_path / "outputs"
    with recorded_below(outputs):
        first = digests_of(model)
        assert digests_of(model) == first
        assert sorted(read) == sorted(small + large)
        forget()  # another process
        read.clear()
        assert digests_of(model) == first
        assert sorted(read) == small
        flip(model / large[0])
        forget()
        read.clear()
        assert digests_of(model)[large[0]] != first[large[0]]
        assert sorted(read) == sorted([*small, large[0]])
        forget()
        read.clear()
        digests_of(model)
        assert sorted(read) == small, "what was recorded of the others stays"
        (outputs / RECORD).write_text('{"a": 3}')  # damaged: no proof
        forget()
        read.clear()
        digests_of(model)
        assert sorted(read) == sorted(small + large)
    forget()
    read.clear()
    digests_of(model)
    assert sorted(read) == sorted(small + large), "no outputs directory is known here"
    assert set(json.loads((outputs / RECORD).read_text())) == {str(model / name) for name in large}


def test_a_disk_that_cannot_be_written_costs_the_record_alone(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(damage, "ALWAYS", 0)
    monkeypatch.setattr(given, "write_durably", refused)
    with recorded_below(tmp_path / "outputs"):
        assert digests_of(model)


def test_a_file_that_may_not_be_read_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, advance: Any) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(given, "file_digest", refused)
    forget()
    with pytest.raises(RunError, match=r"model/config\.json cannot be read \(Permission denied\)\. Change its permissions"):
        digests_of(model)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json"])
def test_another_tokenizer_is_another_token_store(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    plans: list[Plan] = []

    def noted(self: Plan, *arguments: Any, **settings: Any) -> Any:
        plans.append(self)
        raise InterruptedError

    monkeypatch.setattr(Plan, "make", noted)
    data, spec = FilePairs(path=tmp_path / "pairs.jsonl"), PretrainedModel(path=str(model), licence="none")
    for _ in range(3):
        base, _ = base_model(spec, data, GivenPairs([], []), root=tmp_path, seed=0)
        with pytest.raises(InterruptedError):
            token_store([], data, base, root=tmp_path, name="tokens", force=False)
        flip(model / name)
    first, second, third = (plan.id for plan in plans)
    assert first == third != second
