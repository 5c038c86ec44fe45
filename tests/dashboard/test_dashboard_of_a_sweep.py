"""The dashboard of a sweep: its runs alone, grouped by sweep and by what was swept."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpo_lab.comparison.jobs import JobRecord, SweepPlan
from tests.comparison.simulated import on_disk
from tests.dashboard.test_dashboard import panels_of, written

pytest.importorskip("wandb_workspaces")


def sweep_of(tmp_path: Path) -> Path:
    """Write a sweep of two losses and three values of beta."""
    outputs = tmp_path / "outputs"
    sweep = outputs / "sweep" / "train-loss-beta-3f9c2a10"
    jobs = [(loss, beta) for loss in ("DPOLoss", "IPOLoss") for beta in (0.01, 0.1, 1.0)]
    SweepPlan(stage="train", command="dpo-lab train -m", jobs=tuple((f"loss={a}", f"loss.beta={b}") for a, b in jobs)).write(
        sweep
    )
    for number, (loss, beta) in enumerate(jobs, start=1):
        config = {"loss": {"class": f"a.{loss}", "beta": beta}, "seed": 0, "group": sweep.name}
        made = on_disk(outputs, f"r{number}", np.linspace(0.1, 0.8, 20) + beta / 10, config, kl=beta)
        about = json.loads((made / "run.json").read_text())
        (made / "run.json").write_text(json.dumps({**about, "group": sweep.name}))
        JobRecord(number=number, overrides=(f"loss={loss}", f"loss.beta={beta}"), state="finished", directory=str(made)).write(
            sweep
        )
    return sweep


def test_it_shows_the_runs_of_the_sweep_grouped_by_it(tmp_path: Path) -> None:
    views = written(sweep_of(tmp_path), tmp_path)
    (runs,) = views["workspace"]["spec"]["section"]["runSets"]
    (only,) = runs["filters"]["filters"]
    assert (only["key"], only["op"], only["value"]) == ({"section": "run", "name": "group"}, "=", "train-loss-beta-3f9c2a10")
    assert [(key["section"], key["name"]) for key in runs["grouping"]] == [
        ("run", "group"),
        ("config", "loss.value.class"),
        ("config", "loss.value.beta"),
    ]
    grids = [block for block in views["report"]["spec"]["blocks"] if block["type"] == "panel-grid"]
    assert all(grid["metadata"]["runSets"][0]["filters"]["filters"] == runs["filters"]["filters"] for grid in grids)


def test_its_parallel_coordinates_have_what_was_swept_and_what_came_of_it(tmp_path: Path) -> None:
    panels = panels_of(written(sweep_of(tmp_path), tmp_path)["workspace"])
    (found,) = [panel["config"]["columns"] for panel in panels if panel["viewType"] == "Parallel Coordinates Plot"]
    shown: list[tuple[Any, Any]] = [(column["accessor"], column.get("log")) for column in found]
    assert shown[0] == ("config:loss.value.class", False)
    assert shown[1] == ("config:loss.value.beta", True)
    assert [accessor for accessor, _ in shown[2:]] == ["summary:gold/after", "summary:kl"]
