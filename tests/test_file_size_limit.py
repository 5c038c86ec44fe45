"""A file that may not grow (`ulimit -f`) ends a run with one line, whoever writes it."""

import errno
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dpo_lab.cli import messages as cli_messages
from dpo_lab.cli.messages import system_message
from dpo_lab.durable_files import sealed_file, write_durably
from dpo_lab.loggers.metrics_file import MetricsFile
from dpo_lab.run_directory import METRICS

LIMIT = 20_000  # bytes
LARGE = torch.zeros(LIMIT)


def checkpoint(place: Path) -> None:
    with sealed_file(place / "step.ckpt") as file:
        torch.save({"weights": LARGE}, file)


def rows(place: Path) -> None:
    file = MetricsFile(place / METRICS)
    for step in range(LIMIT):
        file.write({"step": step})


@pytest.mark.parametrize(
    "write",
    [
        checkpoint,
        rows,
        lambda place: save_file({"weights": LARGE}, place / "model.safetensors"),
        lambda place: np.save(place / "ids.npy", LARGE.numpy()),
        lambda place: torch.save(LARGE, place / "weights.pt"),
        lambda place: write_durably(place / "summary.json", "x" * 2 * LIMIT),
    ],
    ids=["checkpoint", "rows", "safetensors", "npy", "torch", "text"],
)
def test_every_writer_is_answered_with_the_limit_and_what_to_type(tmp_path: Path, write: object) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        with pytest.raises(Exception) as raised:
            write(tmp_path)  # type: ignore[operator]
        said = system_message(raised.value, str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert said
    assert said.startswith(f"a file below {tmp_path} would be larger than 0.02 MB")
    assert "ulimit -f unlimited" in said
    assert not list(tmp_path.glob(".*.tmp"))


def test_without_a_limit_it_is_the_file_system(tmp_path: Path) -> None:
    assert cli_messages.file_size_limit() is None
    said = system_message(OSError(errno.EFBIG, "File too large"), "there")
    assert said == "the file system of there takes no files as large as this run writes. Choose another with paths.outputs=DIR."
