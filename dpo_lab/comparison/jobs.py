"""The jobs of a sweep on disk: which ones were asked for, and what became of each, whichever process ran it."""

import hashlib
import json
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from dpo_lab.durable_files import write_durably

PLAN, JOBS = "jobs.json", "jobs"
"""In a sweep's directory: what was asked for, and the directory with a record and a log for each job."""
STATES = ("finished", "pruned", "waiting", "running", "failed", "killed", "stopped", "not started")
NAME_LENGTH, VALUE_LENGTH, WORDS_LENGTH = 60, 24, 40  # characters
IN_EVERY_NAME = ("model", "loss", "data")
"""Options that the name of every run begins with."""
NAMED = (
    *IN_EVERY_NAME,
    *("recipe", "experiment", "reference", "optim", "adapter", "quant", "layout", "precision", "iteration"),
    *("prompts", "sampler", "ranker", "pairing", "evaluation", "trainer", "callbacks", "debug", "seed"),
)
"""Groups, and roots of keys, whose values can change the result."""
NEUTRAL = ("trainer.log_every", "trainer.accelerator", "callbacks.checkpoint.every", "callbacks.checkpoint.keep")
"""Keys below them that no id is made of."""


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What a sweep was asked for."""

    stage: str
    command: str
    """That runs the sweep, quoted for a shell: the same command again runs what is missing."""
    metric: str = ""
    """The figure that was asked for; empty: the main one."""
    jobs: tuple[tuple[str, ...], ...] = ()
    """The overrides of each job; of a search those that were proposed so far."""
    keys: tuple[str, ...] = ()
    """Those that a search may set; empty: those that differ between jobs."""
    better: str = ""
    """Of a search: `max` or `min`, by which way the metric gets better."""
    prune_by: str = ""
    """Of a search: name of the figure by which runs end early; empty: none does."""

    def write(self, directory: Path) -> None:
        """Write it into the directory of the sweep."""
        directory.mkdir(parents=True, exist_ok=True)
        write_durably(directory / PLAN, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")


def plan_in(directory: Path) -> SweepPlan | None:
    """Return what the sweep of a directory was asked for, None if it is not the directory of a sweep."""
    try:
        found = json.loads((directory / PLAN).read_text(encoding="utf-8"))
        jobs = tuple(tuple(map(str, job)) for job in found["jobs"])
        return SweepPlan(**{**found, "jobs": jobs, "keys": tuple(map(str, found.get("keys", ())))})
    except (OSError, ValueError, TypeError, KeyError):
        return None


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """One job of a sweep, and what became of it."""

    number: int
    """From 1."""
    overrides: tuple[str, ...]
    state: str = "not started"
    """One of STATES."""
    command: str = ""
    """That does this job alone."""
    directory: str | None = None
    """Of its run; None for a stage without one, or before it is known."""
    figure: tuple[str, float] | None = None
    """Name and value of the figure by which runs are compared."""
    message: str = ""
    """Why it failed."""
    started: str = ""
    seconds: float | None = None
    """Of this job, which may have found its run finished."""
    pid: int = 0
    host: str = ""

    @property
    def stem(self) -> str:
        """The name of its record and of its log, without ending."""
        return f"{self.number:03d}"

    def log(self, sweep: Path) -> Path:
        """Return where its log is."""
        return sweep / JOBS / f"{self.stem}.log"

    def write(self, sweep: Path) -> Self:
        """Write it into the directory of the sweep; return it."""
        (sweep / JOBS).mkdir(parents=True, exist_ok=True)
        write_durably(sweep / JOBS / f"{self.stem}.json", json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
        return self

    @classmethod
    def begun(cls, number: int, overrides: Sequence[str], started: str) -> Self:
        """Return the record of a job that this process begins."""
        where = {"pid": os.getpid(), "host": socket.gethostname()}
        return cls(number=number, overrides=tuple(overrides), state="running", started=started, **where)  # type: ignore[arg-type]


def jobs_in(directory: Path) -> list[JobRecord]:
    """Return the jobs of a sweep in their order, those that never began included; what a killed process began is `killed`."""
    plan = plan_in(directory)
    found = {number: JobRecord(number=number, overrides=job) for number, job in enumerate(plan.jobs if plan else (), start=1)}
    for path in (directory / JOBS).glob("*.json"):
        if record := _read(path):
            found[record.number] = record
    return [found[number] for number in sorted(found)]


def _read(path: Path) -> JobRecord | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        figure = content["figure"] and (str(content["figure"][0]), float(content["figure"][1]))
        record = JobRecord(**{**content, "overrides": tuple(map(str, content["overrides"])), "figure": figure})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return replace(record, state="killed") if record.state == "running" and not _is_alive(record) else record


def _is_alive(record: JobRecord) -> bool:
    """Return whether the process of a job may still run; of one on another machine nobody here can tell."""
    if record.host != socket.gethostname():
        return True
    if record.pid == os.getpid():
        return False  # whoever asks is not running it: a process before had the same number
    try:
        os.kill(record.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


# ---------------------------------------------------------------- names
def values_of(overrides: Sequence[str]) -> dict[str, str]:
    """Return what overrides set, as text.

    >>> values_of(["loss=dpo", "+optim.lr=1e-4", "~callbacks"])
    {'loss': 'dpo', 'optim.lr': '1e-4', 'callbacks': ''}
    """
    pairs = (override.lstrip("+~").partition("=") for override in overrides)
    return {key: value for key, _, value in pairs}


def swept_values(jobs: Sequence[Sequence[str]], swept: Sequence[str] = ()) -> list[dict[str, str]]:
    """Return of each job what is not the same in all of them: the swept keys with their values, `seed` last.

    Args:
        jobs: the overrides of each.
        swept: the keys, where they are known.

    >>> swept_values([["debug=fast", "seed=0", "loss=dpo"], ["debug=fast", "seed=1", "loss=dpo"]])
    [{'seed': '0'}, {'seed': '1'}]
    """
    found = [values_of(job) for job in jobs]
    keys = dict.fromkeys(key for values in found for key in values if len({settings.get(key) for settings in found}) > 1)
    ordered = sorted(swept or keys, key=lambda key: key == "seed")
    return [{key: values.get(key, "") for key in ordered} for values in found]


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Return the last words of dotted keys, as many as tell them apart.

    >>> short_keys(["recipe.beta", "optim.lr", "model.lr", "seed"])
    {'recipe.beta': 'beta', 'optim.lr': 'optim.lr', 'model.lr': 'model.lr', 'seed': 'seed'}
    """
    last = [key.rpartition(".")[2] for key in keys]
    return {key: short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)}


def job_name(number: int, values: Mapping[str, Any]) -> str:
    """Return a name of a job: its number in the sweep and what is swept, plain enough for a shell and for a file.

    >>> job_name(3, {"recipe.beta": "0.1", "seed": "0"}), job_name(12, {"data.path": "a b/$(x).jsonl"})
    ('3-beta0.1-seed0', '12-path_a_b_x_.jsonl')
    """
    return f"{number}-{label_of(values)}"[:NAME_LENGTH].rstrip("-._")


def label_of(values: Mapping[str, Any]) -> str:
    """Return what is swept in one plain word.

    >>> label_of({"loss": "ipo", "optim.lr": "1e-4", "seed": "0"})
    'loss_ipo-lr1e-4-seed0'
    """
    short = short_keys(list(values))
    return "-".join(_word(short[key], value) for key, value in values.items())[:NAME_LENGTH].rstrip("-._")


def words_of(overrides: Sequence[str], swept: Sequence[str] = ()) -> tuple[str, ...]:
    """Return what a run was asked for in plain words of bounded length, without what every name has: seed, swept keys, the rest.

    >>> words_of(["recipe.beta=0.3", "seed=1", "loss=ipo", "logger=wandb"]), words_of(["seed=0", "data.path=a/b.jsonl"])
    (('seed1', 'beta0.3'), ())
    """
    typed = [override.lstrip("+").partition("=") for override in overrides if not override.startswith("~")]
    values = {key: value for key, _, value in typed if key.partition(".")[0] in NAMED and key not in (*IN_EVERY_NAME, *NEUTRAL)}
    told = {key: value for key, value in values.items() if "/" not in value and ((key, value) != ("seed", "0") or key in swept)}
    short, words = short_keys(list(told)), list[str]()
    for key in sorted(told, key=lambda key: (key != "seed", key not in swept)):
        words.append(_word(short[key], told[key]))
        if len("-".join(words)) > WORDS_LENGTH:
            return tuple(words[:-1])
    return tuple(words)


def swept_in(sweep: Path, number: int) -> tuple[str, ...]:
    """Return the keys that are swept for a job of a sweep, by its number; none where the sweep has no such job yet."""
    plan = plan_in(sweep)
    return tuple(swept_values(plan.jobs, plan.keys)[number - 1]) if plan and number <= len(plan.jobs) else ()


def label_in(sweep: Path, number: int) -> str:
    """Return the label of a job of a sweep by its number, empty where the sweeper chooses jobs one after another."""
    plan = plan_in(sweep)
    return label_of(swept_values(plan.jobs, plan.keys)[number - 1]) if plan and number <= len(plan.jobs) else ""


def _word(key: str, value: Any) -> str:
    return _plain(f"{key}{'' if re.match(r'[-+.]?[0-9]', str(value)) else '_'}{value}").rstrip("-._")


def _plain(text: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_.+-]+", "_", text).replace("__", "_")
    if len(plain) <= VALUE_LENGTH:
        return plain
    return f"{plain[: VALUE_LENGTH - 5]}.{hashlib.sha256(text.encode()).hexdigest()[:4]}"
