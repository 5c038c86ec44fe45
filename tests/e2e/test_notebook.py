"""docs/first_run.ipynb runs from its first cell to its last, in an empty directory, and shows what it says that it shows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "first_run.ipynb"


def shown(cell: Any) -> str:
    """Return the text that a cell left, and the kinds of what it showed."""
    texts = [each.get("text", "") or each.get("data", {}).get("text/plain", "") for each in cell.get("outputs", ())]
    kinds = [kind for each in cell.get("outputs", ()) for kind in each.get("data", {})]
    return "\n".join([*texts, *kinds])


@pytest.mark.slow
def test_the_notebook_runs_to_its_end_and_shows_tables_curves_and_a_comparison(
    tmp_path: Path, pretrained: Callable[..., Path]
) -> None:
    pretrained(tmp_path / "outputs")
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    (_, run, table, ranking, curves, compared, answer) = [shown(cell) for cell in notebook.cells if cell.cell_type == "code"]
    assert len(list((tmp_path / "outputs" / "model").glob("*/manifest.json"))) == 1, "it starts from the default run's model"
    assert "Better than before" in run
    assert "gold reward (0..1)" in table
    assert "text/html" in table
    assert "score" in ranking
    assert "loss at step 1: 0.6931" in curves
    assert "image/png" in curves
    assert "on these 318 prompts" in compared
    assert "The Silent Mirror" in answer
