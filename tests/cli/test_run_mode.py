"""A command is composed once, unless something on it can make it a sweep."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.hydra import Hydra

from dpo_lab.cli.main import main
from dpo_lab.cli.run_mode import SETTING
from dpo_lab.conf_files import CONF
from dpo_lab.stages.train import Train

RAN: list[Train] = []


@pytest.fixture
def compositions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that Hydra composes from here on; stages only note that they were run."""
    composed, compose = list[str](), Hydra.compose_config

    def counted(self: Hydra, *args: Any, **settings: Any) -> Any:
        composed.append(" ".join(settings["overrides"]))
        return compose(self, *args, **settings)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr(Hydra, "compose_config", counted)
    monkeypatch.setattr(Train, "run", lambda stage, call=None: RAN.append(stage))
    RAN.clear()
    return composed


@pytest.mark.parametrize(("words", "times", "jobs"), [("seed=1", 1, 1), ("-m seed=0,1", 1, 2), ("sweep=losses seed=0", 2, 2)])
def test_a_command_is_composed_once_unless_a_sweep_may_be_kept(
    compositions: list[str], words: str, times: int, jobs: int
) -> None:
    assert main(["train", *words.split()]) == 0
    assert (len(compositions), len(RAN)) == (times, jobs)


def test_a_directory_of_one_s_own_may_keep_a_sweep_anywhere(compositions: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine" / "debug").mkdir(parents=True)
    (tmp_path / "mine" / "debug" / "both.yaml").write_text(
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      seed: 0,1\n"
    )
    assert main(["train", "--config-dir", "mine", "debug=both"]) == 0
    assert [stage.seed for stage in RAN] == [0, 1]
    assert len(compositions) == 2


def test_after_the_command_hydra_finds_the_mode_itself(compositions: list[str]) -> None:
    before = Hydra.get_mode
    assert main(["train", "seed=1"]) == 0
    assert Hydra.get_mode is before


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONF)))
def test_files_of_other_groups_set_no_mode_and_choose_no_sweep(path: Path) -> None:
    if path.relative_to(CONF).parts[0] not in SETTING:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"MULTIRUN|^hydra\.mode|override /(sweep|experiment)\b", text, re.M)
