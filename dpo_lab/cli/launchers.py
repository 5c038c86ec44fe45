"""Launchers that run several jobs of a sweep at once on this machine: how many, unless the command line says it."""

import os
from collections.abc import Sequence
from pathlib import Path

from dpo_lab.cli.arguments import key_of

WITHOUT_GPU = 2
LIMITS = {"joblib": "hydra.launcher.n_jobs", "submitit_local": "hydra.sweeper.max_batch_size"}
"""The setting that says how many jobs run at a time: joblib takes every core for a job, submitit starts all jobs at once."""
GPUS = Path("/proc/driver/nvidia/gpus")


def limits(overrides: Sequence[str]) -> list[str]:
    """Return the setting that keeps jobs from sharing one GPU or one machine, none where one is set.

    >>> limits(["seed=0,1"]), limits(["hydra/launcher=joblib", "hydra.launcher.n_jobs=4"])
    ([], [])
    """
    launcher = next((override.partition("=")[2] for override in overrides if key_of(override) == "hydra/launcher"), "")
    key = LIMITS.get(launcher)
    return [f"{key}={at_once()}"] if key and key not in map(key_of, overrides) else []


def at_once() -> int:
    """Return how many jobs run at a time: one where there is a GPU, as every job takes the first, else two."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return 1 if GPUS.is_dir() and visible not in ("", "-1") else WITHOUT_GPU


def importable_in_workers(checkout: Path) -> None:
    """Let processes that a launcher starts find this package where it runs from a checkout that is not installed."""
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(checkout) not in known:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(checkout), *filter(None, known)])
