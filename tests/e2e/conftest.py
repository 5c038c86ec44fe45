"""What the slow tests share: the longest files begin first, and the model of the runs on films is made once."""

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.e2e.forked import Command, finished

LONGEST = (
    *("bands", "sweep", "learned_ranker", "recipes", "in_the_project", "kills", "findings", "real_models", "notebook", "ddp"),
    *("fits", "layers_again", "killed_evaluation", "gpu_record", "rerun", "other_names"),
)
"""The files that take longest, the first one most: a worker takes the next file, so that none of them is left for one alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, where files are handed out in their order (make e2e)."""
    begin_first = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: begin_first.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """What puts the model that a training with some words starts from into its outputs, and returns them.

    It is made once for all tests of all workers: the default one takes 900 steps, as long as two rounds of training.
    """
    here = tmp_path_factory.getbasetemp()
    shared = (here.parent if "PYTEST_XDIST_WORKER" in os.environ else here) / "pretrained"

    @cache
    def made(words: tuple[str, ...]) -> Path:
        outputs = shared / ("_".join(words).replace("=", "_") or "default")
        finished(Command("scripts/pretrain.py", *words, f"paths.outputs={outputs}"))  # waits for another worker that makes it
        return outputs / "model"

    def into(outputs: Path, *words: str) -> Path:
        shutil.copytree(made(words), outputs / "model")
        return outputs

    return into
