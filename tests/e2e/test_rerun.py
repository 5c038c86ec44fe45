"""A real run, repeated by another process from its directory alone."""

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.forked import ROOT, Command, finished

pytestmark = pytest.mark.slow


def train(directory: Path, *words: str) -> str:
    return finished(Command("train.py", *words, directory=directory))


@pytest.mark.parametrize("given", [True, False])
def test_a_run_is_repeated_from_its_directory_to_equal_figures(tmp_path: Path, given: bool) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    shutil.copy(ROOT / "docs" / "example_pairs.jsonl", first / "pairs.jsonl")
    words = ["data=jsonl", "data.path=pairs.jsonl", "loss=ipo"] if given else ["debug=fast"]
    train(first, *words)
    (run,) = (first / "outputs" / "train").glob("*/")
    moved = run.rename(second / run.name)  # it stands alone: nothing that it was made from is there
    shutil.rmtree(first / "outputs")
    again = train(second, f"rerun={run.name}", "paths.outputs=mine")
    figures = json.loads((moved / "summary.json").read_text(encoding="utf-8"))
    numbers = [name for name, value in figures.items() if isinstance(value, int | float) and not name.startswith("seconds/")]
    assert again.splitlines()[-2:] == [f"rerun of {moved}", f"all {len(numbers)} figures equal"]
    assert [path.name for path in (second / "mine" / "rerun" / run.name / "train").glob("*/")] == [run.name]
    once_more = train(second, f"rerun={run.name}", "paths.outputs=mine")
    assert "this run was finished before" in once_more
