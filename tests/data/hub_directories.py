"""Directories in Hub layout, written by tests, and what is said of one that cannot be used."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.data.problems import DataError
from dpo_lab.data.sources import FilePairs, HubPairs

Row = dict[str, Any]
SPLITS = ("train_iteration_1", "train_iteration_2")
"""Training splits of `snorkel_style`."""


def rows(count: int, start: int = 0) -> list[Row]:
    return [{"prompt": f"q{n}?", "chosen": f" yes {n}", "rejected": f" no {n}"} for n in range(start, start + count)]


def scored_row(number: int, scores: list[float]) -> Row:
    """Return a row of the Snorkel data set: the answers are called a, b, ..., the first best and the last worst."""
    asked = {"role": "user", "content": f"Question {number}?"}
    answers = [chr(ord("a") + position) for position in range(len(scores))]
    turns = [[asked, {"role": "assistant", "content": answer}] for answer in (answers[0], answers[-1])]
    return {
        "prompt_id": str(number),
        "prompt": asked["content"],
        "chosen": turns[0],
        "rejected": turns[1],
        "all_generated_responses": answers,
        "all_rm_scores": scores,
    }


def scored_rows(count: int, start: int) -> list[Row]:
    return [scored_row(number, [2.0, 0.5, -1.0]) for number in range(start, start + count)]


def written(root: Path, files: Mapping[str, list[Row] | bytes], card: str = "") -> Path:
    """Write a directory; rows become what the file's suffix says."""
    from pyarrow import Table, parquet

    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list) and path.suffix == ".parquet":
            parquet.write_table(Table.from_pylist(content), path)
            continue
        data = content if isinstance(content, bytes) else "\n".join(map(json.dumps, content)).encode()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" and isinstance(content, list) else data)
    if card:
        (root / "README.md").write_text(f"---\n{card}---\n")
    root.mkdir(exist_ok=True)
    return root


def snorkel_style(root: Path, rounds: int = 2, *, test: bool = True) -> Path:
    files: dict[str, list[Row] | bytes] = {}
    for number in range(1, rounds + 1):
        start = 100 * number
        files[f"data/train_iteration_{number}-00000-of-00001.parquet"] = scored_rows(10, start)
        if test:
            files[f"data/test_iteration_{number}-00000-of-00001.parquet"] = scored_rows(3, start + 50)
    names = [name.split("/")[1].partition("-")[0] for name in files]
    listed = "".join(f"  - split: {name}\n    path: data/{name}-*\n" for name in names)
    return written(root, files, f"configs:\n- config_name: default\n  data_files:\n{listed}")


def card_of(*splits: str) -> str:
    listed = "".join(f"  - split: {name}\n    path: data/{name}-*\n" for name in splits)
    return f"configs:\n- config_name: default\n  data_files:\n{listed}"


def refused(path: Path | str, **fields: Any) -> DataError:
    data = FilePairs(path=path, **fields) if isinstance(path, Path) else HubPairs(path=path, splits=("train",), **fields)
    with pytest.raises(DataError) as caught:
        data.load()
    assert "\n" not in str(caught.value)
    return caught.value
