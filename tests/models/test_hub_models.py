"""Models of the Hub: fetched into the cache at one commit, read from it without a connection, refused with what helps."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpo_lab.components import ConfigError
from dpo_lab.models.hub import checked, commit_of, fetched
from dpo_lab.models.load import load_model
from dpo_lab.models.quant import NoQuant
from dpo_lab.models.storage import Storage
from tests.data.fake_hub import COMMIT, NAME, FakeHub
from tests.models.directories import model_directory


@pytest.fixture
def served(tmp_path: Path) -> Path:
    return model_directory(tmp_path / "served", "qwen2")


@pytest.fixture
def hub(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    from huggingface_hub import constants

    (served / "pytorch_model.bin").write_bytes(b"never fetched")
    (served / "original").mkdir()
    (served / "original" / "params.json").write_text("{}")
    server = FakeHub(served)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_a_check_fetches_the_small_files_and_loading_the_weights(
    hub: FakeHub, served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = checked(NAME)
    assert not list(directory.glob("*.safetensors"))
    assert capsys.readouterr().out == ""
    whole = fetched(NAME)
    assert whole == directory
    assert capsys.readouterr().out == "  fetching owner/pairs, 0.0523 MB\n"
    fetched(NAME)
    assert capsys.readouterr() == ("", "")
    wanted = {path.name for path in served.iterdir() if path.is_file()} - {"pytorch_model.bin"}
    assert {path.name for path in whole.iterdir()} == wanted
    assert commit_of(NAME) == COMMIT


def test_what_the_cache_holds_is_loaded_without_asking_anyone(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    fetched(NAME)
    request.getfixturevalue("offline")
    asked = len(hub.asked)
    checked(NAME)
    loaded = load_model(NAME, Storage(NoQuant(), revision=commit_of(NAME)))
    assert len(hub.asked) == asked
    assert loaded.tokenizer.eos_token == "<|im_end|>"


def test_a_cache_that_was_filled_in_part_is_said_offline_and_filled_online(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    shard = fetched(NAME) / "model-00002-of-00003.safetensors"
    shard.unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"is not complete: 1 of the 3 weight files .* Run again with a connection, or bring"):
        checked(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    checked(NAME)
    fetched(NAME)
    assert shard.exists()


@pytest.mark.parametrize(
    ("path", "revision", "said"),
    [
        ("nobody/nothing", None, r"the Hub has no such model, or a private one. Correct model.path"),
        ("gated/pairs", None, r"is gated: .* https://huggingface.co/gated/pairs, then log in with `hf auth login`"),
        (NAME, "v9", r"has no revision v9. Correct model.revision"),
        ("no id at all", None, r"nor a Hub id, which is owner/name. Correct model.path"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_the_hub_refuses_is_said_with_what_to_do(path: str, revision: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        checked(path, revision)


def test_a_model_of_pickles_is_refused_before_it_is_fetched(hub: FakeHub) -> None:
    hub.files = {name: content for name, content in hub.files.items() if not name.startswith("model")}
    with pytest.raises(ConfigError, match=r"has no weights in safetensors; pickles can run code"):
        checked(NAME)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("gated", [True, False, None])
def test_offline_without_a_copy_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gated: bool | None) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        checked(NAME, COMMIT, gated=gated)
    said = str(caught.value)
    assert said.startswith("owner/pairs is not a directory, the cache (HF_HOME) has no complete copy at revision 1111")
    assert "then model.path=DIR. model.revision=null takes the newest that the cache holds" in said
    assert f"`hf download owner/pairs --revision {COMMIT} --local-dir DIR`" in said
    assert ("is gated" in said) is bool(gated)


def test_a_directory_is_what_it_is_whatever_its_name(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(served, tmp_path / "owner" / "pairs")
    monkeypatch.chdir(tmp_path)
    assert checked("owner/pairs") == Path("owner/pairs")
    assert commit_of("owner/pairs") is None


def test_another_commit_in_the_cache_is_taken_offline_when_none_is_pinned(hub: FakeHub, request: pytest.FixtureRequest) -> None:
    fetched(NAME)
    request.getfixturevalue("offline")
    with pytest.raises(ConfigError, match=f"no complete copy at revision {'2' * 40}"):
        checked(NAME, "2" * 40)
    assert commit_of(NAME) == COMMIT
