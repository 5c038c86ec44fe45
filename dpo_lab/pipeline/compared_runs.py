"""Finished runs compared by paired differences of what was observed of each held-out prompt."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lab.artifacts import Plan, write_durably
from dpo_lab.components import ConfigError
from dpo_lab.evaluation.statistics import Comparison, Observed, compare_all
from dpo_lab.figures import Figure
from dpo_lab.pipeline.evaluation import measured_in
from dpo_lab.pipeline.run_lineage import finished_run, opened_part
from dpo_lab.progress import say
from dpo_lab.records import write_jsonl
from dpo_lab.report.comparison_page import comparison_page
from dpo_lab.report.figures import figures_in
from dpo_lab.run_directory import REPORT, RunDirectory

REPORT_JSON, VERDICTS = "report.json", "verdicts.jsonl"
OF_ONE_LOSS = ("eval/loss", "eval/margin")
"""Figures that mean another thing for another loss, or another strength of it."""


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """What is known of one run."""

    name: str
    path: Path
    id: str
    """Content id of its last measurement."""
    figures: Mapping[str, Figure]
    values: Mapping[str, float]
    observed: Mapping[str, Observed]
    loss: Any
    """What it was trained with, as its configuration says."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One figure of all runs."""

    figure: Figure
    values: Mapping[str, tuple[float, float | None, float | None]]
    """By the run's name: value and ends of the interval."""
    comparisons: tuple[Comparison, ...]


def compare_finished(paths: Sequence[str], chosen: str | None, *, outputs: Path, force: bool) -> dict[str, Any]:
    """Compare finished runs, or find the comparison; say and return the verdicts by figure.

    Args:
        chosen: the run, as it stands in `paths`, that each other one is compared with; None: every pair.

    Raises:
        ConfigError: if there are fewer than two, one stands there twice, or one is missing, unfinished or damaged.
    """
    refuse_few(paths, chosen)
    runs = [compared_run(Path(path)) for path in paths]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise ConfigError("runs: two runs have the same name; compare runs of one outputs directory.")
    against = None if chosen is None else names[paths.index(chosen)]
    compared = compare_runs(runs, against)
    facts = {
        comparison.figure.name: [{"sentence": found.sentence(), "winner": found.winner} for found in comparison.comparisons]
        for comparison in compared
    }

    def produce(directory: Path) -> dict[str, Any]:
        write_comparison(directory, runs, compared)
        return {"verdicts": facts}

    content = {"measurements": {run.name: run.id for run in runs}, "against": against}
    plan = Plan(outputs, "comparison", f"{len(runs)}-runs", content, parents=[run.id for run in runs])
    made = plan.make(produce, force=force)
    for comparison in compared:
        say(f"{comparison.figure.title}", *(f"  {found.sentence()}" for found in comparison.comparisons))
    say(f"report {made.path / REPORT}")
    return facts


def refuse_few(paths: Sequence[str], chosen: str | None) -> None:
    """Raise ConfigError for fewer than two runs, one that is named twice, or an unknown one to compare with."""
    places = [Path(path).resolve() for path in paths]
    if len(places) < 2:
        raise ConfigError(f"runs=[{','.join(paths)}]: a comparison takes two runs or more: runs=[{','.join([*paths, 'DIR'])}]")
    if twice := [path for path, place in zip(paths, places, strict=True) if places.count(place) > 1]:
        raise ConfigError(f"runs names {twice[0]} twice; leave one of them out.")
    if chosen is not None and chosen not in paths:
        raise ConfigError(
            f"against={chosen} is not among the runs; use against={' or against='.join(paths)}, or null for every pair."
        )


def compared_run(directory: Path) -> ComparedRun:
    """Return a finished run with the observations of its last policy.

    Raises:
        ConfigError: if there is no such run, or nothing was observed in it.
    """
    run = finished_run(directory, "runs")
    entries = [artifact for artifact in run["lineage"] if artifact["kind"] == "evaluation" and "-after-" in artifact["name"]]
    measurement = opened_part(directory, entries[-1]) if entries else None
    measured = measured_in(measurement) if measurement else None
    if measurement is None or measured is None or not measured.observed:
        raise ConfigError(
            f"runs: {directory}: no answer or pair of this run was kept, only their means: nothing was held out, or the "
            "run is older than observed.jsonl. Run it again with force=true, and with data.held_out=N if its pairs are given."
        )
    return ComparedRun(
        name=directory.resolve().name,
        path=directory,
        id=measurement.id,
        figures={figure.name: figure for figure in figures_in(run)},
        values=measured.figures,
        observed=measured.observed,
        loss=RunDirectory(directory).config().get("loss"),
    )


def compare_runs(runs: Sequence[ComparedRun], against: str | None = None) -> list[Compared]:
    """Return every figure that all runs have, with every pair of runs compared, or one run with each other one.

    Figures of the loss itself are compared only where all runs have the same loss.

    Raises:
        ConfigError: if the runs share no figure, or were measured on different prompts.
    """
    first = runs[0]
    same_loss = all(run.loss == first.loss for run in runs)
    names = [
        name
        for name in first.figures
        if all(name in run.figures and name in run.observed for run in runs) and (same_loss or name not in OF_ONE_LOSS)
    ]
    if not names:
        raise ConfigError(f"runs: {first.name} and the others have no figure in common. Compare runs of one evaluation=.")
    compared = []
    for name in sorted(names, key=lambda name: not first.figures[name].main):
        observed = {run.name: run.observed[name] for run in runs}
        refuse_other_prompts(observed)
        figure = first.figures[name]
        ends = {run.name: (run.values[name], run.values.get(f"{name}/low"), run.values.get(f"{name}/high")) for run in runs}
        found = compare_all(observed, against=against, better=figure.better)
        compared.append(Compared(figure=figure, values=ends, comparisons=tuple(found)))
    return compared


def refuse_other_prompts(observed: Mapping[str, Observed]) -> None:
    """Raise ConfigError if two runs were measured on different prompts."""
    (first, ours), *others = observed.items()
    for name, theirs in others:
        if apart := set(ours.by_prompt.prompts) ^ set(theirs.by_prompt.prompts):
            raise ConfigError(
                f"runs: {first} and {name} were measured on different held-out prompts ({len(apart)} stand in one alone), so "
                "they cannot be compared pair by pair. Give both the same data, held_out, seed and evaluation."
            )


def write_comparison(directory: Path, runs: Sequence[ComparedRun], compared: Sequence[Compared]) -> None:
    """Write report.json, verdicts.jsonl (a line per prompt and figure, with the mean of each run) and report.html."""
    report = {
        "runs": [{"name": run.name, "directory": str(run.path), "measurement": run.id} for run in runs],
        "figures": [
            {
                "name": entry.figure.name,
                "title": entry.figure.title,
                "better": entry.figure.better,
                "values": {name: dict(zip(("value", "low", "high"), ends, strict=True)) for name, ends in entry.values.items()},
                "comparisons": [found.record() for found in entry.comparisons],
            }
            for entry in compared
        ],
    }
    write_jsonl(directory / VERDICTS, (line for entry in compared for line in verdict_lines(entry.figure.name, runs)))
    write_durably(directory / REPORT_JSON, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    write_durably(directory / REPORT, comparison_page(report))


def verdict_lines(name: str, runs: Sequence[ComparedRun]) -> list[dict[str, Any]]:
    """Return the mean of each run for every prompt."""
    means = {}
    for each in runs:
        grouped = each.observed[name].by_prompt
        means[each.name] = dict(zip(grouped.prompts, (grouped.sums / grouped.counts).tolist(), strict=True))
    prompts = runs[0].observed[name].by_prompt.prompts
    return [{"prompt_id": prompt, "figure": name, **{run: each[prompt] for run, each in means.items()}} for prompt in prompts]
