"""What is known of each run of a comparison, read from its directory; nothing here loads a model or composes a configuration."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from dpo_lab.artifacts import MANIFEST, Artifact
from dpo_lab.comparison.jobs import JobRecord, job_name, jobs_in, plan_in, short_keys, swept_values
from dpo_lab.damage import examine
from dpo_lab.evaluation.intervals import OBSERVED, observed_in
from dpo_lab.evaluation.statistics import Observed
from dpo_lab.figures import Figure
from dpo_lab.plain_data import leaves
from dpo_lab.records import read_jsonl
from dpo_lab.report.figures import figures_in
from dpo_lab.report.record import RunRecord, read_record

SEED = "seed"
NEUTRAL = ("outputs", "logger", "force", "tags", "notes", "group", "optimized_metric")
"""Fields of a run that change no figure."""
EMPTY = RunRecord(name="", summary={}, run={}, config={}, rows=[], screen="", absent=())


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run: of a job of a sweep, or of a directory that was named."""

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    """What differs between the runs, by the key of the configuration."""
    state: str = "finished"
    directory: Path | None = None
    record: RunRecord = EMPTY
    job: JobRecord | None = None
    """None of a run that was named by its directory."""
    log: Path | None = None

    @property
    def setting(self) -> tuple[tuple[str, Any], ...]:
        """What differs from other runs beside the seed."""
        return tuple((key, value) for key, value in self.values.items() if key != SEED)

    @property
    def seed(self) -> str:
        """The seed, empty if all runs have the same one."""
        return str(self.values.get(SEED, ""))

    @property
    def seconds(self) -> float | None:
        """How long the run took when it was made; of one that failed, until then."""
        made = self.record.summary.get("seconds/total")
        return float(made) if made is not None else self.job.seconds if self.job else None

    @cached_property
    def figures(self) -> Sequence[Figure]:
        """The figures that the run names."""
        return figures_in(self.record.run)

    def value(self, key: str) -> float | None:
        """Return a figure of the summary by its key, None if it is absent or no finite number."""
        found = self.record.summary.get(key)
        if found is None and self.job and self.job.figure and self.job.figure[0] == key:
            found = self.job.figure[1]  # its directory is gone
        if isinstance(found, int | float) and math.isfinite(found) and self.state == "finished":
            return float(found)
        return None

    def interval(self, name: str) -> tuple[float, float] | None:
        """Return the ends of a figure's interval by the figure's name, if it has one."""
        low, high = self.value(f"{name}/low"), self.value(f"{name}/high")
        return None if low is None or high is None else (low, high)

    def observed(self, name: str) -> Observed | None:
        """Return what was observed of single answers or pairs of the last policy, by a figure's name; None without any."""
        return self._observations.get(name)

    @cached_property
    def _observations(self) -> dict[str, Observed]:
        lineage = self.record.run.get("lineage") or ()
        entries = [entry for entry in lineage if entry["kind"] == "evaluation" and "-after-" in entry["name"]]
        if not entries or self.directory is None:
            return {}
        entry = entries[-1]
        beside = self.directory.resolve().parents[1] / entry["kind"] / entry["name"]
        for path in (beside, Path(entry["path"])):
            made = Artifact.open(path)
            if made and made.id == entry["id"] and (path / OBSERVED).exists():
                return observed_in(read_jsonl(path / OBSERVED))
        return {}


# ---------------------------------------------------------------- from disk
def runs_of_sweep(sweep: Path) -> list[Run]:
    """Return a run for each job of a sweep, in their order; of one without a directory only what became of it is known."""
    jobs = jobs_in(sweep)
    outputs = sweep.parents[1]
    runs = []
    swept = plan.keys if (plan := plan_in(sweep)) else ()
    for job, values in zip(jobs, swept_values([job.overrides for job in jobs], swept), strict=True):
        directory = _found(job.directory, outputs)
        record = read_record(directory) if directory else EMPTY
        typed = {key: as_number(value) for key, value in values.items()}
        log = job.log(sweep)
        runs.append(
            Run(
                name=job_name(job.number, values),
                values=typed,
                state=whole(directory, job.state),
                directory=directory or (Path(job.directory) if job.directory else None),
                record=record,
                job=job,
                log=log if log.exists() else None,
            )
        )
    return runs


def runs_named(directories: Sequence[Path]) -> list[Run]:
    """Return the runs of directories, with what differs between them in their configurations."""
    records = [read_record(directory) for directory in directories]
    runs = []
    for directory, record, values in zip(directories, records, differing([each.config for each in records]), strict=True):
        state = whole(directory, "finished") if is_finished(directory) else "unfinished"
        runs.append(Run(name=directory.resolve().name, values=values, state=state, directory=directory, record=record))
    return runs


def runs_at(places: Sequence[Path]) -> list[Run]:
    """Return the runs of directories of runs and of sweeps, each run once; those of one sweep alone keep its keys."""
    if len(places) == 1 and plan_in(places[0]):
        return runs_of_sweep(places[0])
    directories: dict[Path, Path] = {}
    for place in places:
        found = [run.directory for run in runs_of_sweep(place)] if plan_in(place) else [place]
        directories |= {each.resolve(): each for each in found if each is not None and each.is_dir()}
    return runs_named(list(directories.values()))


def is_finished(directory: Path | None) -> bool:
    """Return whether a directory is that of a finished run."""
    return directory is not None and (directory / MANIFEST).is_file()


def whole(directory: Path | None, state: str) -> str:
    """Return the state of a run; `damaged`, and then no figure is taken, if a file of it was changed since it was written."""
    return "damaged" if directory is not None and examine(directory).damage else state


def _found(directory: str | None, outputs: Path) -> Path | None:
    """Return where the directory of a run is: where it was, or beside its sweep where both were moved."""
    if directory is None:
        return None
    places = (Path(directory), outputs / Path(directory).parent.name / Path(directory).name)
    return next((place for place in places if place.is_dir()), None)


def differing(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return of each configuration what is not the same in all of them, `seed` last.

    A class stands under the key of its part: loss=DPOLoss. What follows from it, keys that another class lacks, is left out.

    >>> differing([{"loss": {"class": "a.DPOLoss", "beta": 1}, "seed": 0}, {"loss": {"class": "a.IPOLoss", "tau": 1}, "seed": 0}])
    [{'loss': 'DPOLoss'}, {'loss': 'IPOLoss'}]
    """
    found = [dict(_settings(config)) for config in configs]
    every = dict.fromkeys(key for values in found for key in values)
    apart = [key for key in every if len({json.dumps(each.get(key), default=str) for each in found}) > 1]
    parts = [key for key in apart if any(other.startswith(f"{key}.") for other in every)]
    lacking = [key for key in apart if any(key not in each for each in found)]
    follows = {key for key in lacking if any(key.startswith(f"{part}.") for part in parts)}
    shown = sorted((key for key in apart if key not in follows), key=lambda key: key == SEED)
    return [{key: each.get(key, "") for key in shown} for each in found]


def _settings(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the values of a configuration by dotted keys; a class by the key of its part."""
    found = []
    for key, value in leaves({name: each for name, each in config.items() if name not in NEUTRAL}):
        is_class = key.endswith(".class")
        found.append((key.removesuffix(".class"), str(value).rpartition(".")[2]) if is_class else (key, value))
    return found


class TypedNumber(float):
    """A number that is shown as it was typed.

    >>> TypedNumber("1e9") == 1e9, str(TypedNumber("1e9")), f"beta={TypedNumber('1e-4')}"
    (True, '1e9', 'beta=1e-4')
    """

    def __new__(cls, text: str) -> Self:
        """Return the number that a text is."""
        number = super().__new__(cls, text)
        number.text = text.strip()
        return number

    text: str

    def __str__(self) -> str:
        """Return the text."""
        return self.text

    __repr__ = __str__


def as_number(value: str) -> Any:
    """Return a text as the number that it is, if it is one.

    >>> as_number("1e-4"), as_number("2"), as_number("dpo"), as_number("nan")
    (1e-4, 2, 'dpo', 'nan')
    """
    for kind in (int, TypedNumber):
        try:
            number = kind(value)
        except ValueError:
            continue
        return number if math.isfinite(number) else value
    return value


def with_short_keys(runs: Sequence[Run]) -> list[Run]:
    """Return the runs with the shortest keys that tell what is set."""
    short = short_keys(list(dict.fromkeys(key for run in runs for key in run.values)))
    return [replace(run, values={short[key]: value for key, value in run.values.items()}) for run in runs]
