"""Recorded calls of shapes that no version writes: one line, no traceback."""

import json
from pathlib import Path

import pytest

from dpo_lab.artifacts import MANIFEST, file_digest
from dpo_lab.cli.main import train
from dpo_lab.manifests import DIGEST, sealed
from tests.cli.test_cli_rerun import RAN, _double, recorded

__all__ = ["_double"]


@pytest.mark.parametrize("kind", ["objects", "lists"])
@pytest.mark.parametrize("depth", [80, 900, 5000])
@pytest.mark.parametrize("place", ["config", "notes", "overrides"])
def test_a_call_that_is_nested_without_end_is_refused_in_one_line(
    depth: int, kind: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = recorded()
    call = json.loads((directory / "call.json").read_text())
    if place == "notes":
        call["config"]["notes"] = "DEEP"
    elif place == "config":
        call["config"] = "DEEP"
    else:
        call[place] = "DEEP"
    opening, closing = ('{"a": ', "}") if kind == "objects" else ("[", "]")
    text = json.dumps(call).replace('"DEEP"', opening * depth + "1" + closing * depth)
    (directory / "call.json").write_text(text)
    manifest = json.loads((directory / MANIFEST).read_text())
    manifest.pop(DIGEST)
    manifest["files"]["call.json"] = {"bytes": len(text), "sha256": file_digest(directory / "call.json")}
    (directory / MANIFEST).write_text(json.dumps(sealed(manifest)))
    capsys.readouterr()
    assert train([f"rerun={directory}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert str(Path(directory).name) in line
    assert len(RAN) == 1
