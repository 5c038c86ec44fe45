"""The stage `evaluate`: finished runs beside one another, told apart by paired differences on the same held-out prompts."""

from pathlib import Path
from typing import Any

from dpo_lab.artifacts import Plan
from dpo_lab.components import Component, ConfigError, component
from dpo_lab.progress import say
from dpo_lab.run_directory import REPORT


@component
class Evaluate(Component):
    """Compare finished runs figure by figure, say which are better, and write report.json, report.html and verdicts.jsonl."""

    runs: tuple[str, ...]
    """Directories of finished runs of train, whose last policies were measured on the same held-out prompts."""
    against: str | None = None
    """The run, as it stands in `runs`, that each other one is compared with; null: every pair."""
    outputs: Path = Path("outputs")
    """Everything that is written goes below it."""
    force: bool = False
    """Compare again even if the comparison is there."""

    def check(self) -> None:
        """Raise ConfigError for fewer than two runs, one that is named twice, or an unknown one to compare with."""
        places = [Path(each).resolve() for each in self.runs]
        if len(places) < 2:
            raise ConfigError(
                f"runs=[{','.join(self.runs)}]: a comparison takes two runs or more: runs=[outputs/train/A,outputs/train/B]"
            )
        if twice := [each for each, place in zip(self.runs, places, strict=True) if places.count(place) > 1]:
            raise ConfigError(f"runs names {twice[0]} twice; leave one of them out.")
        if self.against is not None and self.against not in self.runs:
            raise ConfigError(
                f"against={self.against} is not among the runs; use one of {', '.join(self.runs)}, or null for every pair."
            )

    def run(self) -> dict[str, Any]:
        """Compare, or find the comparison; return the verdicts by figure.

        Raises:
            ConfigError: if a run is missing, unfinished or damaged, or if the runs were measured on different prompts.
        """
        self.check()
        from dpo_lab.pipeline.compared_runs import compare_runs, compared_run, write_comparison

        runs = [compared_run(Path(each)) for each in self.runs]
        names = [each.name for each in runs]
        if len(set(names)) < len(names):
            raise ConfigError("runs: two runs have the same name; compare runs of one outputs directory.")
        against = None if self.against is None else names[self.runs.index(self.against)]
        compared = compare_runs(runs, against)
        facts = {
            each.figure.name: [
                {"sentence": comparison.sentence(), "winner": comparison.winner} for comparison in each.comparisons
            ]
            for each in compared
        }

        def produce(directory: Path) -> dict[str, Any]:
            write_comparison(directory, runs, compared)
            return {"verdicts": facts}

        content = {"measurements": {each.name: each.id for each in runs}, "against": against}
        plan = Plan(self.outputs, "comparison", f"{len(runs)}-runs", content, parents=[each.id for each in runs])
        artifact = plan.make(produce, force=self.force)
        for each in compared:
            say(f"{each.figure.title}", *(f"  {comparison.sentence()}" for comparison in each.comparisons))
        say(f"report {artifact.path / REPORT}")
        return facts
