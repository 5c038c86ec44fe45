"""A Hub on this machine that is written to: repositories, large files apart from commits, and commits that are all or nothing."""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

from tests.hub_answers import HubAnswers

TOKEN = "hf_of_the_test"
LARGE = (".parquet", ".safetensors")


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.parquet filter=lfs\n"})
    commits: list[str] = field(default_factory=lambda: [hashlib.sha1(b"first").hexdigest()])


class HubDouble(ThreadingHTTPServer):
    """Belongs to `me`; what others own cannot be written."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.sent: list[str] = []
        """sha256 of each large file that was uploaded, once for every time."""
        self.asked: list[str] = []
        self.headers: list[str | None] = []
        self.fail: dict[str, int | str] = {}
        """What happens at the next request of a kind (create, preupload, batch, put, commit): a status, `drop`, or `hold`."""
        self.held = threading.Event()
        """Set when a request is held."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients are killed here."""


class Answers(HubAnswers):
    server: HubDouble

    def log_message(self, *args: object) -> None:
        self.server.asked.append(f"{self.command} {self.path}")

    def stopped(self, kind: str) -> bool:
        """Return whether the request ends here, as the test asked."""
        how = self.server.fail.pop(kind, None)
        if how == "hold":
            self.server.held.set()
            threading.Event().wait(60)
        if how == "drop":
            self.close_connection = True
            self.connection.close()
        elif isinstance(how, int):
            self.answer({"error": f"told to answer {how}"}, how)
        return how is not None

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.server.headers.append(self.headers["Authorization"])
        name = "/".join(unquote(urlparse(self.path).path).split("/")[3:5])
        found = self.server.repositories.get(name)
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self.answer({"error": "no"}, 401, X_Error_Message="Invalid credentials in Authorization header")
            return
        if found is None or (found.private and not name.startswith("me/")):
            self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
            return
        self.answer({"id": name, "private": found.private, "sha": found.commits[-1], "tags": [], "siblings": siblings(found)})

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.stopped("put"):
            return
        digest = hashlib.sha256(content).hexdigest()
        assert self.path == f"/large/{digest}"
        self.server.large[digest] = content
        self.server.sent.append(digest)
        self.answer()

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        parts = unquote(urlparse(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "validate-yaml"]:
            self.answer({"errors": [], "warnings": []})
            return
        if parts == ["api", "repos", "create"]:
            self.create(json.loads(content))
            return
        if parts[-3:] == ["lfs", "objects", "batch"]:
            if not self.stopped("batch"):
                self.batch(json.loads(content))
            return
        name, what = "/".join(parts[2:4]), parts[4]
        if self.stopped(what):
            return
        if not name.startswith("me/"):
            self.answer({"error": "Forbidden"}, 403)
            return
        if what == "preupload":
            files = [load["path"] for load in json.loads(content)["files"]]
            modes = [{"path": path, "uploadMode": "lfs" if path.endswith(LARGE) else "regular"} for path in files]
            self.answer({"files": [{**mode, "shouldIgnore": False, "oid": None} for mode in modes]})
            return
        self.commit(name, [json.loads(line) for line in content.splitlines()])
        return

    def create(self, asked: dict[str, Any]) -> None:
        if self.stopped("create"):
            return
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.server.repositories:
            self.answer({"error": "You already created this repo: it exists"}, 409)
            return
        if asked["organization"] != "me":
            self.answer({"error": "You don't have the rights"}, 403)
            return
        self.server.repositories[name] = Repository(private=asked.get("visibility") == "private")
        self.answer({"url": f"{self.server.url}/{name}"})

    def batch(self, asked: dict[str, Any]) -> None:
        objects = []
        for each in asked["objects"]:
            upload = {"upload": {"href": f"{self.server.url}/large/{each['oid']}"}}
            objects.append({**each, **({} if each["oid"] in self.server.large else {"actions": upload})})
        self.answer({"transfer": "basic", "objects": objects})

    def commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        found = self.server.repositories[name]
        if lines[0]["value"].get("parentCommit") not in (None, found.commits[-1]):
            self.answer({"error": "A commit has happened since"}, 412)
            return
        files = dict(found.files)
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
            else:
                del files[value["path"]]
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        found.files = files
        found.commits.append(commit)
        if not self.stopped("answer"):
            self.answer({"commitUrl": f"{self.server.url}/{name}/commit/{commit}", "commitOid": commit})


def siblings(found: Repository) -> list[dict[str, Any]]:
    """Return what the Hub lists of the files."""
    listed: list[dict[str, Any]] = []
    for name, content in found.files.items():
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        large = {"lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}}
        listed.append({"rfilename": name, "size": len(content), "blobId": blob, **(large if name.endswith(LARGE) else {})})
    return listed
