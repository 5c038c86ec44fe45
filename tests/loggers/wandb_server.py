"""A stand-in for W&B's server on the loopback address: it answers what a client asks for and keeps what it was sent."""

import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

IDS = {"id": "1", "name": "films", "internalId": "UHJvamVjdDox", "entity": {"id": "1", "name": "somebody"}}
AGENT = {"id": "QWdlbnQ="}
VIEWER = {
    "id": "1",
    "username": "somebody",
    "entity": "somebody",
    "flags": "{}",
    "teams": {"edges": []},
    "email": "",
    "admin": False,
}
VERSIONS: dict[str, Any] = {"cliVersionInfo": {"max_cli_version": "99.0.0"}, "features": [], "latestLocalVersionInfo": None}


class WandbServer:
    """Answers queries by the fields that they name; a context manager."""

    def __init__(self, *, sweep: str = "", commands: list[dict[str, Any]] | None = None) -> None:
        self.sweep = sweep
        """The YAML of a sweep."""
        self.commands = list(commands or ())
        """What agents are told to do, one at each heartbeat."""
        self.queries: list[tuple[str, dict[str, Any]]] = []
        """Operations with their variables."""
        self.streams: list[tuple[str, dict[str, Any]]] = []
        """Ids of runs, with the lines of history, summary and machine figures that were sent for them."""
        self.lines: dict[str, int] = {}
        """Lines of history by the run's id."""
        self.uploads: dict[str, bytes] = {}
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """What sends a client here."""
        return {"WANDB_BASE_URL": self.address, "WANDB_API_KEY": "a" * 40}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def asked(self, operation: str) -> list[dict[str, Any]]:
        """Return the variables of an operation, in the order of arrival; those of a mutation without their wrapping."""
        return [variables.get("input", variables) for name, variables in self.queries if name == operation]

    def history(self, run: str) -> list[tuple[int, dict[str, Any]]]:
        """Return the rows of a run without W&B's own figures but `_step`, each with the line that it was sent for."""
        rows = []
        for name, body in self.streams:
            sent = body.get("files", {}).get("wandb-history.jsonl", {}) if name == run else {}
            for at, line in enumerate(sent.get("content", ())):
                row = {key: value for key, value in json.loads(line).items() if not key.startswith("_") or key == "_step"}
                rows.append((sent["offset"] + at, row))
        return rows

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                reply = json.dumps(server.reply(self.path, body)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            do_GET = do_PUT = do_POST  # noqa: N815

            def log_message(self, *args: Any) -> None: ...

        return Handler

    def reply(self, path: str, body: bytes) -> dict[str, Any]:
        if path.endswith("/graphql"):
            query: dict[str, Any] = json.loads(body)
            found = re.search(r"(?:query|mutation)\s+(\w+)", query["query"])
            variables: dict[str, Any] = query.get("variables") or {}
            self.queries.append((found[1] if found else "", variables))
            return {"data": self.answer(query["query"], variables)}
        if streamed := re.search(r"/([^/]+)/file_stream$", path):
            sent: dict[str, Any] = json.loads(body)
            self.streams.append((streamed[1], sent))
            if rows := sent.get("files", {}).get("wandb-history.jsonl"):
                self.lines[streamed[1]] = rows["offset"] + len(rows["content"])
        else:
            self.uploads[path] = body
        return {}

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        asked = variables.get("input") or {}
        if "upsertBucket" in query:
            return {"upsertBucket": {"bucket": self.run(variables["name"]), "inserted": variables["name"] not in self.lines}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.address}/upload/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "UnVuOjE=", "uploadHeaders": [], "files": files}}
        if "createArtifact(" in query:
            made = {"id": asked["digest"], "digest": asked["digest"], "state": "COMMITTED", "aliases": []}
            return {"createArtifact": {"artifact": {**made, "artifactSequence": {"id": "1", "latestArtifact": None}}}}
        if "useArtifact" in query:
            return {"useArtifact": {"artifact": {"id": asked["artifactID"]}}}
        if "ArtifactByID" in query:
            return {"artifact": self.artifact(variables["id"])}
        if "notifyScriptableRunAlert" in query:
            return {"notifyScriptableRunAlert": {"success": True}}
        if "upsertView" in query:
            view = {name: variables[name] for name in ("name", "displayName", "description", "spec")}
            project = {"name": variables["projectName"], "entityName": variables["entityName"]}
            return {"upsertView": {"view": {"id": "Vmlldzox", "project": project, **view}, "inserted": True}}
        if "models(" in query or "projects(" in query:
            project = {**IDS, "entityName": "somebody", "createdAt": "2026-01-01T00:00:00Z", "isBenchmark": False, "user": None}
            page = {
                "edges": [{"node": {**project, "name": "dpo-lab"}, "cursor": "a"}],
                "pageInfo": {"endCursor": "a", "hasNextPage": False},
            }
            return {"models": page, "projects": page}
        if "createAgent" in query:
            return {"createAgent": {"agent": AGENT}}
        if "agentHeartbeat" in query:
            now, self.commands = self.commands[:1], self.commands[1:]
            return {"agentHeartbeat": {"agent": AGENT, "commands": json.dumps(now)}}
        if "sweep(" in query:
            return {
                "project": {"sweep": {"id": "1", "name": "s", "state": "RUNNING", "config": self.sweep, "runs": {"edges": []}}}
            }
        if "viewer" in query or "serverInfo" in query:
            return {"viewer": VIEWER, "serverInfo": VERSIONS}
        if "project(" in query or "model(" in query:
            bucket = self.run(variables["name"]) if variables.get("name") in self.lines else None
            return {"model": {"bucket": bucket}, "project": {"run": None, "internalId": "1", "artifact": None}}
        return {"entity": None}

    def run(self, name: str) -> dict[str, Any]:
        """Return what the server says of a run: how many lines of history it has."""
        tails = {"historyTail": "[]", "eventsTail": "[]", "logTail": "[]", "history": [], "events": [], "wandbConfig": '{"t": 1}'}
        counts = {"historyLineCount": self.lines.get(name, 0), "eventsLineCount": 0, "logLineCount": 0}
        texts: dict[str, Any] = {"config": "{}", "summaryMetrics": "{}", "sweepName": None, "state": "running", "tags": []}
        return {"id": "UnVuOjE=", "name": name, "displayName": name, "project": IDS, **texts, **tails, **counts}

    def artifact(self, name: str) -> dict[str, Any]:
        source = {"__typename": "ArtifactSequence", "id": "1", "name": "part", "project": IDS}
        numbers = {
            "versionIndex": 0,
            "ttlDurationSeconds": -2,
            "ttlIsInherited": True,
            "size": 1,
            "fileCount": 1,
            "historyStep": None,
        }
        texts = {
            "description": None,
            "metadata": "{}",
            "commitHash": None,
            "createdAt": "2026-01-01T00:00:00Z",
            "updatedAt": None,
        }
        kind = {"artifactType": {"name": "data"}, "tags": [], "aliases": [], "state": "COMMITTED", "digest": name}
        return {"__typename": "Artifact", "id": name, "artifactSequence": source, **numbers, **texts, **kind}
