"""A Hub of one data set on this machine, as far as reading from it goes."""

import hashlib
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

from tests.hub_answers import HubAnswers

NAME, COMMIT = "owner/pairs", "1" * 40


class FakeHub(ThreadingHTTPServer):
    """Serves the files of a directory as `owner/pairs` at one commit; gated/* is gated, everything else does not exist."""

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(HubAnswers):
    server: FakeHub

    def log_message(self, *args: object) -> None:
        self.server.asked.append(self.path)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path)
        if NAME not in path:
            return self.answer({}, 401, X_Error_Code="GatedRepo" if "/gated/" in path else "RepoNotFound")
        kind, _, rest = path.split(f"{NAME}/")[1].partition("/")
        revision, _, name = rest.partition("/")
        if revision not in (COMMIT, "main"):
            return self.answer({}, 404, X_Error_Code="RevisionNotFound")
        if kind == "revision":
            return self.answer(
                {
                    "id": NAME,
                    "sha": COMMIT,
                    "siblings": [{"rfilename": file} for file in self.server.files],
                    "tags": [],
                    "private": False,
                }
            )
        if kind == "tree":
            deep = "recursive=true" in urlparse(self.path).query.lower()
            below = [file for file in self.server.files if file.startswith(name and f"{name}/")]
            files = [each for each in below if deep or each.rpartition("/")[0] == name]
            folders = {file.split("/")[0] for file in self.server.files if "/" in file and not name}
            listed = [{"type": "file", "path": file, "size": 1, "oid": self.digest(file)} for file in files]
            return self.answer([*listed, *({"type": "directory", "path": folder, "oid": "0" * 40} for folder in folders)])
        if name not in self.server.files:
            return self.answer({}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        return self.answer(self.server.files[name], ETag=f'"{self.digest(name)}"', X_Repo_Commit=COMMIT)

    def digest(self, name: str) -> str:
        return hashlib.sha1(self.server.files[name]).hexdigest()
