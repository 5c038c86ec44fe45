"""Files of checkpoints: durable, with a digest of all that they hold, and of the rows that were recorded before them."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from dpo_lab.durable_files import flush_to_disk, seal_holds, sealed_file
from dpo_lab.loggers.metrics_file import cut, digest_of_rows
from dpo_lab.progress import part, say
from dpo_lab.run_directory import EVALUATIONS, METRICS, SAMPLES

DIRECTORY = "checkpoints"
RECORDED = (METRICS, SAMPLES, EVALUATIONS)
"""Files beside the directory of checkpoints whose rows belong to steps: a checkpoint knows them as they were at its step."""
ROWS = "recorded_rows"
LARGE = 1 << 30  # bytes of a checkpoint that is checked with progress

_whole: dict[tuple[str, int, int, int], bool] = {}
"""Checkpoints that this process has checked, by path, size, time and inode."""


class DurableFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it: the old one or the new one is there, whenever the process dies.

    Lightning's own way writes to a temporary directory and moves, which on another file system is a copy that a kill cuts.
    What was recorded until then is on the disk before it, and a digest stands behind its content.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint durably."""
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        files = [file for name in RECORDED if (file := place.parent.parent / name).exists()]
        for file in files:
            flush_to_disk(file)
        rows = {file.name: [file.stat().st_size, digest_of_rows(file, file.stat().st_size)] for file in files}
        with sealed_file(place) as sealing:
            torch.save({**checkpoint, ROWS: rows}, sealing)


def path_of(directory: Path, step: int) -> Path:
    """Return the file of the checkpoint after a step."""
    return directory / f"step_{step:07d}.ckpt"


def checkpoints(directory: Path) -> dict[int, Path]:
    """Return the finished checkpoints by step, and remove what a killed writer left."""
    for path in directory.glob(".*.tmp"):
        path.unlink(missing_ok=True)
    found = ((re.fullmatch(r"step_(\d+)\.ckpt", path.name), path) for path in directory.glob("*.ckpt"))
    return {int(match[1]): path for match, path in found if match}


def newest(directory: Path) -> Path | None:
    """Return the newest checkpoint that is whole and whose rows are; others are removed with a line that says so."""
    for _, path in sorted(checkpoints(directory).items(), reverse=True):
        if not (fault := fault_of(path)):
            return path
        say(f"  {path} cannot be read ({fault}) and is removed")
        path.unlink()
    return None


def fault_of(path: Path) -> str:
    """Return why training cannot resume from a checkpoint, or an empty text."""
    try:
        if not _is_whole(path):
            return "it is damaged, or was not written by this version"
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if "loops" not in state or ROWS not in state:
            return "it holds no training"
        beside = path.parent.parent
        for name, (size, digest) in state[ROWS].items():
            if digest_of_rows(beside / name, size) != digest:
                return f"{name} is damaged: it is not as it was when the checkpoint was saved"
    except Exception as error:
        return type(error).__name__
    return ""


def _is_whole(path: Path) -> bool:
    found = path.stat()
    key = (str(path.absolute()), found.st_size, found.st_mtime_ns, found.st_ino)
    if key not in _whole:
        check: Callable[..., bool] = partial(seal_holds, path)
        if found.st_size < LARGE:
            _whole[key] = check()
        else:
            with part(f"checking {path.name}, bytes", found.st_size) as shown:
                _whole[key] = check(shown.advance)
    return _whole[key]


def rewind(directory: Path) -> None:
    """Cut the rows of a training that was stopped to those that its newest whole checkpoint knows; later steps are repeated.

    Rows behind it are covered by no digest, and training makes them again. Called before the rows are read.
    """
    kept = newest(directory / DIRECTORY)
    rows = torch.load(kept, map_location="cpu", weights_only=True, mmap=True)[ROWS] if kept else {}
    for name in RECORDED:
        cut(directory / name, rows[name][0] if name in rows else 0)
