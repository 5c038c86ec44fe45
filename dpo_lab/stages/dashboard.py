"""The stage `dashboard`: the saved workspace and report of W&B for a run, for a sweep or for rounds."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from dpo_lab.artifacts import write_durably
from dpo_lab.components import Component, ConfigError, component
from dpo_lab.progress import say


@component
class Dashboard(Component):
    """Build W&B's workspace and report of what was recorded, and save them or write their JSON."""

    source: str
    """Directory of a finished run or of a sweep."""
    kind: Literal["auto", "run", "sweep", "rounds"] = "auto"
    """What is shown; auto: a sweep if the source is one, rounds if the run has several."""
    project: Annotated[str, Field(pattern=r"^[^/\\#?%:]{1,128}$")] = "dpo-lab"
    """The project that the runs were sent to."""
    entity: str | None = None
    """User or team; None is the account's default."""
    dry_run: bool = False
    """Whether the JSON is written without a server."""
    outputs: Path = Path("outputs")
    """Everything that is written goes below it."""

    def idle(self) -> Mapping[str, str]:
        """Return what belongs to saving alone."""
        return {"entity": "no server is asked (dry_run=true)"} if self.dry_run else {}

    def check(self) -> None:
        """Raise ConfigError without the package, or without a key where a server is asked."""
        from dpo_lab.dashboard.views import refuse_without_package

        refuse_without_package()
        if not self.dry_run:
            from dpo_lab.loggers.wandb_run import has_key

            if not has_key():
                raise ConfigError(
                    "no API key of W&B is configured, and a stage never stops to ask for one. "
                    "Set WANDB_API_KEY or run `wandb login` once, or use dry_run=true, which writes the JSON."
                )

    def run(self) -> dict[str, Any]:
        """Build both views; return where they are.

        Raises:
            ConfigError: if the source cannot be shown, or nothing can be saved here.
            RunError: if W&B does not take them.
        """
        self.check()
        from dpo_lab.dashboard.panels import sections_of
        from dpo_lab.dashboard.source import source_at
        from dpo_lab.dashboard.views import default_entity, plain, report_of, saved, workspace_of

        source = source_at(Path(self.source), self.kind)
        sections = sections_of(source)
        entity = "" if self.dry_run else self.entity or default_entity()
        views = {
            "workspace": workspace_of(source, sections, entity=entity, project=self.project),
            "report": report_of(source, sections, entity=entity, project=self.project),
        }
        count = sum(len(section.panels) for section in sections)
        say(f"dashboard  {source.kind} {source.name}: {count} panels in {len(sections)} sections")
        if not source.has_samples:
            say("  without a table of answers: these runs were not sent with logger.wandb.samples=true")
        if not self.dry_run:
            addresses = dict(zip(views, saved(*views.values()), strict=True))
            say(*(f"{name:<10} {address}" for name, address in addresses.items()))
            return {"panels": count, **addresses}
        directory = self.outputs / "dashboard" / f"{source.kind}-{source.name}"
        directory.mkdir(parents=True, exist_ok=True)
        for name, view in views.items():
            write_durably(directory / f"{name}.json", json.dumps(plain(view), indent=1, ensure_ascii=False) + "\n")
            say(f"{name:<10} {directory / name}.json")
        say("  nothing was sent; without dry_run=true both are saved in W&B")
        return {"panels": count, **{name: str(directory / f"{name}.json") for name in views}}
