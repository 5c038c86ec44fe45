"""The panels as a workspace and a report of W&B: their JSON, and how they are saved.

`_to_model` and `_from_model` are the library's own step between its objects and what its server is sent; they are private names,
so pyproject.toml holds wandb-workspaces below 0.5.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dpo_lab.components import ConfigError, RunError
from dpo_lab.dashboard.panels import Panel, Section
from dpo_lab.dashboard.source import Source, swept

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import Report
    from wandb_workspaces.workspaces import Workspace

STEP = "step"
"""What the logger counts every figure over."""
COLUMNS, WIDTH, HEIGHT = 3, 8, 7  # of a report's grid, which is 24 wide
NAMES = {"run": "one run", "sweep": "a sweep", "rounds": "round by round"}


def refuse_without_package() -> None:
    """Raise ConfigError if wandb-workspaces cannot be imported."""
    try:
        import wandb_workspaces.reports.v2
        import wandb_workspaces.workspaces  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"the stage dashboard needs wandb-workspaces, which cannot be imported here ({error}). "
            "Install it: pip install 'dpo-lab[dashboard]'"
        ) from None


def workspace_of(source: Source, sections: Sequence[Section], *, entity: str, project: str) -> "Workspace":
    """Return the workspace: only the runs of the source, grouped by sweep and by what was swept."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    keys = [expr.Metric("Group"), *(expr.Config(setting.key) for setting in swept(source))] if source.kind == "sweep" else []
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"DPO Lab, {NAMES[source.kind]}: {source.name}"[:128],
        sections=[
            ws.Section(name=section.title, is_open=True, panels=[panel_of(panel) for panel in section.panels])
            for section in sections
        ],
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=100),
        runset_settings=ws.RunsetSettings(filters=filter_of(source), groupby=keys),
    )


def report_of(source: Source, sections: Sequence[Section], *, entity: str, project: str) -> "Report":
    """Return the report: a text on what it shows, and a grid of panels for each section.

    Args:
        entity: empty in a dry run: a set of runs of a named entity asks the server for its project's id.
    """
    import wandb_workspaces.reports.v2 as wr

    keys = ["group", *(f"config.{setting.key}" for setting in swept(source))] if source.kind == "sweep" else []
    blocks: list[Any] = [wr.P(text=text_of(source))]
    for section in sections:
        runs = wr.Runset(entity=entity, project=project, name=source.name, filters=filter_of(source), groupby=keys)
        panels = [panel_of(panel) for panel in section.panels]
        for at, panel in enumerate(panels):
            x, y = at % COLUMNS * WIDTH, at // COLUMNS * HEIGHT
            panel.layout = wr.Layout(x=x, y=y, w=WIDTH, h=HEIGHT)
        blocks += [wr.H2(text=section.title), wr.PanelGrid(runsets=[runs], panels=panels)]
    return wr.Report(entity=entity, project=project, title=f"DPO Lab, {NAMES[source.kind]}: {source.name}"[:128], blocks=blocks)


def text_of(source: Source) -> str:
    """Return what the report says before its panels."""
    compared = f" Runs are compared by {source.metric.key}, {source.metric.direction}." if source.metric else ""
    tested = " Whether the best one is told apart from the others stands in the sweep's own index.html and best.yaml."
    return f"{NAMES[source.kind].capitalize()}, {source.name}.{compared}{tested if source.kind == 'sweep' else ''}"


def filter_of(source: Source) -> Any:
    """Return what only the runs of the source meet: the group of a sweep, the name of a run."""
    from wandb_workspaces import expr

    name, value = ("Group", source.name) if source.kind == "sweep" else ("Name", source.display)
    return expr.And(expr.Metric(name) == value)


def panel_of(panel: Panel) -> Any:
    """Return a panel as W&B's library has it."""
    import wandb_workspaces.reports.v2 as wr

    of_summary = [wr.SummaryMetric(name) for name in panel.metrics]
    if panel.view == "line":
        return wr.LinePlot(title=panel.title, x=STEP, y=list(panel.metrics))
    if panel.view == "scatter":
        return wr.ScatterPlot(title=panel.title, x=of_summary[0], y=of_summary[1])
    if panel.view == "bars":
        return wr.BarPlot(title=panel.title, metrics=of_summary)
    if panel.view == "table":
        return wr.WeavePanelSummaryTable(table_name=panel.metrics[0])
    if panel.view == "settings":
        return wr.RunComparer(diff_only="split")
    column = wr.ParallelCoordinatesPlotColumn
    set_here = [
        column(metric=wr.Config(setting.key), display_name=setting.title, log=setting.is_log) for setting in panel.settings
    ]
    ends = [column(metric=metric, inverted=metric.name in panel.minimised) for metric in of_summary]
    return wr.ParallelCoordinatesPlot(title=panel.title, columns=[*set_here, *ends])


def default_entity() -> str:
    """Return the entity of the account.

    Raises:
        RunError: if the server cannot be asked.
    """
    import wandb

    try:
        return str(wandb.Api(timeout=30).default_entity or "")
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"W&B does not say whose account this is ({reason}). Use entity=NAME, or dry_run=true.") from error


def plain(view: Any) -> dict[str, Any]:
    """Return a workspace or a report as the JSON object that the server is sent."""
    found: dict[str, Any] = view._to_model().model_dump(by_alias=True, exclude_none=True, mode="json")
    return found


def saved(*views: Any) -> list[str]:
    """Save views on the server; return their addresses.

    Raises:
        RunError: if the server does not take them.
    """
    try:
        return [view.save().url for view in views]
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(
            f"W&B did not take the dashboard ({type(error).__name__}: {reason}). Check entity= and project=, or use dry_run=true."
        ) from error
