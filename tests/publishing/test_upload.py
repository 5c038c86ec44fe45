"""Uploads: one commit or none, nothing sent twice, and one line for whatever stands in the way."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpo_lab import hub_connection
from dpo_lab.components import ConfigError, RunError
from dpo_lab.stages.publish import Publish
from tests.publishing.hub_double import TOKEN, HubDouble, Repository
from tests.publishing.made import conversations, made_pairs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubDouble]:
    """A Hub of the test's own, which the library asks with the token of the test."""
    from huggingface_hub import constants

    with HubDouble() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
        server.shutdown()


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return made_pairs(tmp_path, conversations(6)).path


def push(pairs: Path, **fields: Any) -> dict[str, Any]:
    repo = {"repo": "me/pairs", "push": True, "licence": "mit", **fields}
    return Publish(source=str(pairs), outputs=pairs.parents[1], **repo).run()


def folder(pairs: Path) -> dict[str, bytes]:
    (root,) = pairs.parents[1].glob("publication/*/repository")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_new_repository_is_private_and_holds_the_folder_after_one_commit(hub: HubDouble, pairs: Path) -> None:
    facts = push(pairs)
    made = hub.repositories["me/pairs"]
    assert made.private
    assert {name: content for name, content in made.files.items() if name != ".gitattributes"} == folder(pairs)
    assert len(made.commits) == 2
    assert (facts["address"], facts["commit"]) == (f"{hub.url}/datasets/me/pairs", made.commits[-1])


def test_the_same_command_finds_it_published_and_sends_nothing(
    hub: HubDouble, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    push(pairs)
    hub.asked.clear()
    push(pairs)
    assert [line for line in hub.asked if not line.startswith(("GET", "HEAD"))] == []
    assert "published before" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["commit", "answer"])
def test_after_a_broken_connection_the_same_command_sends_no_large_file_twice(hub: HubDouble, pairs: Path, part: str) -> None:
    hub.fail[part] = "drop"
    with pytest.raises(RunError, match=r"repo=me/pairs: the connection broke .*not known. Run the same command again"):
        push(pairs)
    assert len(hub.repositories["me/pairs"].commits) == (1 if part == "commit" else 2)
    push(pairs)
    assert len(hub.repositories["me/pairs"].commits) == 2
    assert len(hub.sent) == len(set(hub.sent)) == 2


def test_without_a_push_nobody_is_asked(hub: HubDouble, pairs: Path) -> None:
    Publish(source=str(pairs), outputs=pairs.parents[1], licence="mit").run()
    assert hub.asked == []


def test_the_token_stands_in_the_header_and_in_no_file(hub: HubDouble, pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    push(pairs)
    assert set(hub.headers) == {f"Bearer {TOKEN}"}
    texts = [path.read_bytes() for path in pairs.parents[1].rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in text for text in texts)
    assert TOKEN not in "".join(capsys.readouterr())


REFUSED: dict[str, tuple[Repository | None, dict[str, Any], str]] = {
    "public": (Repository(private=False), {}, r"repo=me/pairs is public, and private=true asks for a private one"),
    "private": (Repository(private=True), {"private": False}, r"repo=me/pairs is private, and private=false does not change"),
    "full": (
        Repository(private=True, files={"old.csv": b"a,b"}),
        {},
        r"repo=me/pairs exists and holds other files \(old.csv\), so nothing was uploaded.*update=true",
    ),
    "another's": (None, {"repo": "you/pairs"}, r"repo=you/pairs: nothing was published: it belongs to another"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_repository_that_may_not_be_written_is_refused_in_one_line(hub: HubDouble, pairs: Path, case: str) -> None:
    there, fields, message = REFUSED[case]
    hub.repositories |= {"me/pairs": there} if there else {}
    files = dict(there.files) if there else {}
    with pytest.raises(ConfigError, match=message) as refused:
        push(pairs, **fields)
    assert "\n" not in str(refused.value)
    assert hub.sent == []
    assert (there.files if there else {}) == files


def test_another_owners_public_repository_is_refused(hub: HubDouble, pairs: Path) -> None:
    hub.repositories["you/pairs"] = Repository(private=False)
    with pytest.raises(ConfigError, match="it belongs to another"):
        push(pairs, repo="you/pairs", private=False)
    assert hub.sent == []


def test_update_makes_a_repository_the_folder_in_one_commit(hub: HubDouble, pairs: Path) -> None:
    hub.repositories["me/pairs"] = Repository(private=True, files={".gitattributes": b"", "old.csv": b"a", "README.md": b"old"})
    push(pairs, update=True)
    files = hub.repositories["me/pairs"].files
    assert {name: content for name, content in files.items() if name != ".gitattributes"} == folder(pairs)
    assert len(hub.repositories["me/pairs"].commits) == 2


def test_a_commit_of_somebody_else_meanwhile_is_not_overwritten(hub: HubDouble, pairs: Path) -> None:
    hub.fail["commit"] = 412
    with pytest.raises(RunError, match="somebody else changed it meanwhile"):
        push(pairs)


@pytest.mark.parametrize(
    ("status", "message"), [(401, "does not accept the token"), (500, "the Hub answered 500"), (400, "refuses it")]
)
def test_what_the_server_answers_is_one_line(hub: HubDouble, pairs: Path, status: int, message: str) -> None:
    hub.fail["commit"] = status
    with pytest.raises((ConfigError, RunError), match=message) as refused:
        push(pairs)
    assert "\n" not in str(refused.value)
    assert len(hub.repositories["me/pairs"].commits) == 1


def test_a_file_that_changes_while_it_is_uploaded_is_not_committed(
    hub: HubDouble, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi

    from dpo_lab.publishing import upload

    monkeypatch.setattr(upload, "SMALL", 0)  # every file is read from its path
    before = HfApi.preupload_lfs_files

    def changed(self: HfApi, *words: Any, **fields: Any) -> None:
        (path,) = pairs.parents[1].glob("publication/*/repository/data/train-*")
        path.write_bytes(b"other rows")
        before(self, *words, **fields)

    monkeypatch.setattr(HfApi, "preupload_lfs_files", changed)
    with pytest.raises(RunError, match="was changed since it was shown, so nothing was published"):
        push(pairs)
    assert len(hub.repositories["me/pairs"].commits) == 1


def test_no_token_is_one_line(hub: HubDouble, pairs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(
        ConfigError, match=r"^push=true requires a token of the Hub: log in with `hf auth login`, or set HF_TOKEN.$"
    ):
        push(pairs)
    assert not hub.repositories


def test_offline_is_one_line_and_the_folder_is_kept(hub: HubDouble, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hub_connection, "is_reachable", lambda: False)
    monkeypatch.setattr("dpo_lab.publishing.upload.is_reachable", lambda: False)
    with pytest.raises(RunError, match="push=true: the Hub does not answer, so nothing was uploaded"):
        push(pairs)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RunError, match="HF_HUB_OFFLINE forbids a connection"):
        push(pairs)
    assert "README.md" in folder(pairs)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["put", "commit", "answer"])
def test_a_killed_upload_is_finished_by_the_same_command(hub: HubDouble, pairs: Path, part: str) -> None:
    """SIGKILL while a large file is on its way, before the commit, and after it but before its answer."""
    words = [f"source={pairs}", f"paths.outputs={pairs.parents[1]}", "licence=mit", "push=true", "repo=me/pairs"]
    variables = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, str(ROOT / "scripts" / "publish.py"), *words]
    hub.fail[part] = "hold"
    process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert hub.held.wait(60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()  # type: ignore[union-attr]
    sent = list(hub.sent)
    assert len(hub.repositories["me/pairs"].commits) == (2 if part == "answer" else 1)
    again = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    files = hub.repositories["me/pairs"].files
    assert {name: content for name, content in files.items() if name != ".gitattributes"} == folder(pairs)
    assert len(hub.repositories["me/pairs"].commits) == 2
    assert len(hub.sent) == len(set(hub.sent)) == 2
    assert set(sent) <= {hashlib.sha256(content).hexdigest() for content in files.values()}
