"""What a finished run leaves below its outputs, without what a clock or the memory of the machine says."""

import json
from pathlib import Path
from typing import Any

CLOCKS = ("time/", "memory/", "seconds")


def figures(outputs: Path) -> dict[str, Any]:
    """Return the summary of the one run."""
    (path,) = (outputs / "train").glob("*/summary.json")
    return _steady(json.loads(path.read_text(encoding="utf-8")))


def rows(directory: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl in the directory of a run or of a policy."""
    lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [_steady(json.loads(line)) for line in lines]


def weights(outputs: Path) -> dict[str, bytes]:
    """Return the weights of each policy."""
    return {path.parent.name: path.read_bytes() for path in sorted((outputs / "policy").glob("*/*.safetensors"))}


def assert_equal(one: Path, other: Path) -> None:
    """Two outputs hold a run with the same figures, rows and weights."""
    assert figures(one) == figures(other)
    assert weights(one) == weights(other) != {}
    runs = [list((outputs / "train").glob("*/metrics.jsonl")) for outputs in (one, other)]
    assert [len(found) for found in runs] == [1, 1]
    first, second = (rows(path.parent) for (path,) in runs)
    assert first == second != []


def _steady(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if not name.startswith(CLOCKS)}
