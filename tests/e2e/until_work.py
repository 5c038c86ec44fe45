"""A command line whose run ends where its work would begin: composed, built and legal."""

from pathlib import Path

import pytest

from dpo_lab.components import RunError
from dpo_lab.rules.check import refuse_illegal
from dpo_lab.stages.train import Train


def end_before_work(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `train` end in a directory with the message `accepted` once nothing is wrong with what was asked."""

    def accepted(stage: Train) -> None:
        refuse_illegal(stage)
        raise RunError("accepted")

    monkeypatch.chdir(directory)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(Train, "run", accepted)
