"""What a dashboard is made for: a run, a sweep or a run of several rounds, with the names of what was recorded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dpo_lab.comparison.jobs import plan_in, short_keys
from dpo_lab.comparison.metric import Metric, metric_of
from dpo_lab.comparison.runs import SEED, Run, is_finished, runs_named, runs_of_sweep
from dpo_lab.components import ConfigError
from dpo_lab.figures import Figure
from dpo_lab.plain_data import leaves
from dpo_lab.run_directory import CALL, RunDirectory

Kind = Literal["run", "sweep", "rounds"]
SHOWN_SETTINGS = ("loss.beta", "optim.lr", "seed")
"""Axes of the parallel coordinates where nothing was swept."""
MOST_SETTINGS = 6
LOG_FROM = 20.0
"""The largest value over the smallest one from which an axis is logarithmic."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A key of the configuration, as W&B holds it."""

    key: str
    title: str
    is_log: bool = False


@dataclass(frozen=True, kw_only=True)
class Source:
    """What finished runs recorded."""

    kind: Kind
    name: str
    """Of the run or of the sweep, whose name is the group of its runs in W&B."""
    display: str
    """What W&B calls the run."""
    runs: tuple[Run, ...]
    figures: tuple[Figure, ...]
    metric: Metric | None
    settings: tuple[Setting, ...]
    has_samples: bool
    """Whether answers were sent to W&B, as a table."""

    @property
    def history(self) -> set[str]:
        """Names of the figures that some logged step has."""
        return {name for run in self.runs for row in run.record.rows for name in row}

    @property
    def summary(self) -> Mapping[str, Any]:
        """Figures that the first run ended with."""
        return self.runs[0].record.summary

    @property
    def rounds(self) -> int:
        """How many rounds the longest run had."""
        return max(len(run.record.run.get("rounds") or ()) for run in self.runs)


def source_at(place: Path, kind: str) -> Source:
    """Return what stands in the directory of a run or of a sweep.

    Args:
        kind: auto, run, sweep or rounds.

    Raises:
        ConfigError: if it is neither, no run of it has finished, or it has no rounds to show.
    """
    is_sweep = plan_in(place) is not None
    if not is_sweep and not RunDirectory(place).is_run:
        raise ConfigError(f"source={place} is neither a run nor a sweep. Give outputs/train/NAME or outputs/sweep/NAME.")
    found = [run.directory for run in runs_of_sweep(place)] if is_sweep else [place]
    finished = [directory for directory in found if directory and is_finished(directory)]
    if not finished:
        raise ConfigError(f"source={place} has no finished run, so its figures are not known. Run its command again first.")
    runs = runs_named(list(dict.fromkeys(finished)))
    first = runs[0].record.run
    label = call_of(runs[0]).get("label")
    rounds = max(len(run.record.run.get("rounds") or ()) for run in runs)
    if kind != "auto" and (kind == "sweep") != is_sweep:
        held = "a sweep" if is_sweep else "a run"
        raise ConfigError(f"kind={kind}, but source={place} is {held}. Leave kind out, or give another source.")
    if kind == "rounds" and rounds < 2:
        raise ConfigError(f"kind=rounds, but source={place} has one round. Use kind=run.")
    auto: Kind = "sweep" if is_sweep else "rounds" if rounds > 1 else "run"
    return Source(
        kind="run" if kind == "run" else auto,
        name=str(first.get("group") or place.resolve().name) if is_sweep else str(first["name"]),
        display=f"{label}-{str(first['id'])[:8]}" if label else str(first["name"]),
        runs=tuple(runs),
        figures=tuple(dict.fromkeys(figure for run in runs for figure in run.figures)),
        metric=metric_of(runs),
        settings=settings_of(runs),
        has_samples=any(sends_samples(run) for run in runs),
    )


def settings_of(runs: list[Run]) -> tuple[Setting, ...]:
    """Return what differs between runs, the seed last; where nothing does, what is usually swept and these runs have."""
    keys = list(dict.fromkeys(key for run in runs for key in run.values))[:MOST_SETTINGS]
    known = [dict(leaves(run.record.config)) for run in runs]
    part = "_target_" if call_of(runs[0]) else "class"  # what W&B's configuration calls the class of a part
    keys = keys or [key for key in SHOWN_SETTINGS if key in known[0]]
    titles = short_keys(keys)
    found = []
    for key in keys:
        values = [config.get(key) for config in known]
        is_class = any(f"{key}.class" in config for config in known)
        found.append(Setting(key=f"{key}.{part}" if is_class else key, title=titles[key], is_log=spans_factors(values)))
    return tuple(found)


def spans_factors(values: list[Any]) -> bool:
    """Return whether values are positive numbers of which the largest is many times the smallest.

    >>> spans_factors([1e-5, 1e-3]), spans_factors([0.1, 0.5]), spans_factors(["a", 1])
    (True, False, False)
    """
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return len(numbers) == len(values) and min(numbers) > 0 and max(numbers) / min(numbers) >= LOG_FROM


def sends_samples(run: Run) -> bool:
    """Return whether a run was told to send answers to W&B, and has some."""
    config: Mapping[str, Any] = call_of(run).get("config") or run.record.config
    logger = (config.get("logger") or {}).get("wandb") or {}
    return bool(logger.get("samples")) and bool(run.record.run.get("samples"))


def call_of(run: Run) -> Mapping[str, Any]:
    """Return what the command line asked for; nothing of a run from Python."""
    return RunDirectory(run.directory).read_if_whole(CALL) if run.directory else {}


def swept(source: Source) -> list[Setting]:
    """Return what tells the configurations of a sweep apart: all that differs but the seed."""
    return [setting for setting in source.settings if setting.key != SEED] if source.kind == "sweep" else []
