"""manifest.json: its digest covers all that it says, and one that cannot be believed is one line, never a traceback."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.artifacts import MANIFEST, Artifact
from dpo_lab.manifests import DIGEST, id_digest, sealed
from tests.artifact_parts import flip, plan, write_rows


def changed(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda manifest: {**manifest, **values}


def without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda manifest: {key: value for key, value in manifest.items() if key != name}


def resealed(**values: Any) -> Callable[[dict[str, Any]], Any]:
    """Return a manifest of another shape whose digest is right."""
    return lambda manifest: sealed({**without(DIGEST)(manifest), **values})


MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a figure": (changed(facts={"rows": 1, "accuracy": 0.85}), "does not match its own digest"),
    "content": (changed(content={"seed": 1}), "does not match its own digest"),
    "no digest and other content": (lambda old: changed(content={})(without(DIGEST)(old)), "does not match its own id"),
    "a digest under another name": (lambda old: {**without(DIGEST)(old), "dihest": old[DIGEST]}, "unknown key, 'dihest'"),
    "no facts": (without("facts"), "lacks facts"),
    "seconds as text": (resealed(seconds="1"), "has a str as seconds"),
    "files as a list": (resealed(files=[]), "has a list as files"),
    "a file without sha256": (resealed(files={"rows.txt": {"bytes": 4}}), "describes the file 'rows.txt' in no known way"),
    "a file elsewhere": (resealed(files={"../x": {"bytes": 4, "sha256": ""}}), "describes the file '../x' in no known way"),
    "a file of the system": (resealed(files={"/x": {"bytes": 4, "sha256": ""}}), "describes the file '/x' in no known way"),
    "seconds as a truth value": (resealed(seconds=True), "has a bool as seconds"),
    "parents that are numbers": (resealed(parents=[1]), "has parents that are not ids"),
    "a list": (lambda old: [old], "holds a list in place of an object"),
    "null": (lambda old: None, "holds a NoneType in place of an object"),
}
TEXTS = {"empty": b"", "cut": b'{"kind": ', "not UTF-8": b"\xff\xfe{}", "deep": b"[" * 100_000, "zeros": bytes(300)}


@pytest.mark.parametrize("how", [*MANIFESTS, *TEXTS])
def test_a_manifest_that_cannot_be_believed_is_one_line_and_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    made = plan(tmp_path).make(write_rows)
    change, why = MANIFESTS.get(how, (None, MANIFEST))
    old = json.loads((made.path / MANIFEST).read_text())
    (made.path / MANIFEST).write_bytes(json.dumps(change(old)).encode() if change else TEXTS[how])
    assert plan(tmp_path).finished() is None
    assert Artifact.open(made.path) is None
    again = plan(tmp_path).make(write_rows)
    assert again.made_now
    assert again.facts == made.facts
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"  {made.path} is damaged: ")
    assert why in line
    assert plan(tmp_path).finished()


def test_the_manifest_of_a_version_without_digests_is_accepted_if_its_files_are_whole(tmp_path: Path) -> None:
    made = plan(tmp_path).make(write_rows)
    old = json.loads((made.path / MANIFEST).read_text())
    assert old.pop(DIGEST)
    assert old["id"] == id_digest("pairs", old["schema"], old["content"])
    (made.path / MANIFEST).write_text(json.dumps(old))
    assert plan(tmp_path).finished()
    flip(made.path / "rows.txt")
    assert plan(tmp_path).finished() is None


def test_what_a_manifest_tells_is_what_is_read_back(tmp_path: Path) -> None:
    facts: dict[Any, Any] = {"text": "ä\u2028", "small": 1e-300, 3: [None, True], "pair": (1, 2)}
    made = plan(tmp_path).make(lambda directory: facts)
    found = plan(tmp_path).finished()
    assert found
    assert found.manifest == made.manifest
    assert found.facts == {"text": "ä\u2028", "small": 1e-300, "3": [None, True], "pair": [1, 2]}
