"""The saved views of W&B: read back by the library's own loader, made without a server, and only of names that were recorded."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpo_lab.components import ConfigError
from dpo_lab.loggers.base import LocalLogger
from dpo_lab.loggers.wandb_run import WandbLogger
from dpo_lab.stages.dashboard import Dashboard
from dpo_lab.training.iteration import Iteration
from tests.comparison.simulated import on_disk
from tests.loggers.test_logger_wandb import final_summary, inspected, of_kind
from tests.small_stage import stage

pytest.importorskip("wandb_workspaces")


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a dry run asks no server")

    monkeypatch.setattr("wandb.Api", refused)


def run_of(tmp_path: Path) -> Path:
    config = {"loss": {"class": "a.DPOLoss", "beta": 0.1}, "seed": 0}
    return on_disk(tmp_path / "outputs", "tiny", np.linspace(0.2, 0.9, 20), config)


def written(source: Path, outputs: Path, **fields: Any) -> dict[str, dict[str, Any]]:
    """Return the JSON of both views by name."""
    made = Dashboard(source=str(source), outputs=outputs, dry_run=True, **fields).run()
    return {name: json.loads(Path(made[name]).read_text(encoding="utf-8")) for name in ("workspace", "report")}


def panels_of(workspace: dict[str, Any]) -> list[dict[str, Any]]:
    sections = workspace["spec"]["section"]["panelBankConfig"]["sections"]
    return [panel for section in sections for panel in section["panels"]]


def names_in(panel: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield where W&B looks for what a panel shows, and the name."""
    config = panel["config"]
    if panel["viewType"] == "Run History Line Plot":
        yield from (("history", name) for name in [config["xAxis"], *config["metrics"]])
    elif panel["viewType"] == "Weave":
        yield "summary", config["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"]
    else:
        accessors = [*config.get("metrics", ()), *(config[axis] for axis in ("xAxis", "yAxis") if axis in config)]
        for accessor in [*accessors, *(column["accessor"] for column in config.get("columns", ()))]:
            place, _, name = accessor.replace("summary_metrics.", "summary:", 1).partition(":")
            yield place, name


def recorded_in(directory: Path) -> dict[str, set[str]]:
    """Return the names that W&B's offline file of a run holds, by where W&B looks for them."""
    (file,) = directory.glob("loggers/wandb/wandb/offline-run-*/*.wandb")
    found = inspected(file)
    (run,) = of_kind("run", found)
    keys: set[str] = set()

    def walk(node: Any, key: str) -> None:
        if isinstance(node, dict):
            for name, value in node.items():
                walk(value, f"{key}.{name}" if "." in key or key else f"{name}.value")
        keys.add(key)

    walk(run["config"]["update"], "")
    history = {name for record in of_kind("history", found) for name in record["item"]}
    summary = {name.removesuffix("._type") for name in final_summary(found)}  # a table stands there by its parts
    return {"history": history, "summary": summary, "config": keys}


def test_every_name_of_a_dashboard_is_one_that_a_run_of_two_rounds_recorded(tmp_path: Path) -> None:
    loggers = {"local": LocalLogger(), "wandb": WandbLogger(mode="offline", samples=True)}
    stage(tmp_path / "outputs", logger=loggers, iteration=Iteration(rounds=2)).run()
    (run,) = (about.parent for about in (tmp_path / "outputs" / "train").glob("*/run.json"))
    known = recorded_in(run)
    workspace = written(run, tmp_path)["workspace"]
    titles = {panel["viewType"] for panel in panels_of(workspace)}
    assert titles == {"Run History Line Plot", "Scatter Plot", "Parallel Coordinates Plot", "Bar Chart", "Weave"}
    asked = [name for panel in panels_of(workspace) for name in names_in(panel)]
    assert [name for place, name in asked if name not in known[place]] == []
    shown = {name for _, name in asked}
    assert {"rewards/margins", "rewards/accuracies_ties_half", "kl", "win_rate", "gold/after", "gold/round_2", "samples"} <= shown
    assert {"answers/tokens/after", "lengths/chosen", "loss.value.beta", "step"} <= shown


def test_the_librarys_own_loader_reads_both_views_back(tmp_path: Path) -> None:
    from wandb_workspaces.reports.v2 import Report
    from wandb_workspaces.reports.v2.internal import ReportViewspec
    from wandb_workspaces.workspaces import Workspace
    from wandb_workspaces.workspaces.internal import View

    views = written(run_of(tmp_path), tmp_path)
    workspace = Workspace._from_model(View.model_validate(views["workspace"]))
    assert workspace.settings.x_axis == "step"
    assert workspace.sections[0].panels[0].title == "gold reward"
    again = workspace._to_model().model_dump(by_alias=True, exclude_none=True, mode="json")
    assert panels_of(again) == panels_of(views["workspace"])
    report = Report._from_model(ReportViewspec.model_validate(views["report"]))
    grids = [block for block in report.blocks if type(block).__name__ == "PanelGrid"]
    assert len(grids) == len(workspace.sections)
    assert grids[0].runsets[0].project == ""
    layouts = [(panel.layout.x, panel.layout.y) for panel in grids[-1].panels]
    assert len(set(layouts)) == len(layouts), "panels do not cover each other"


def test_a_run_has_no_table_of_answers_unless_they_were_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    views = written(run_of(tmp_path), tmp_path)
    assert "Weave" not in {panel["viewType"] for panel in panels_of(views["workspace"])}
    assert "logger.wandb.samples=true" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"kind": "sweep"}, "kind=sweep, but source=.* is a run"), ({"kind": "rounds"}, "has one round. Use kind=run")],
)
def test_a_kind_that_the_source_is_not_is_refused(tmp_path: Path, fields: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        written(run_of(tmp_path), tmp_path, **fields)


def test_a_directory_that_is_neither_a_run_nor_a_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is neither a run nor a sweep"):
        written(tmp_path, tmp_path)
