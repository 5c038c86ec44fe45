"""`--help` of each stage: its keys first, then the groups that it takes, within the terminal's width."""

import re
from dataclasses import fields

import pytest
from hydra.utils import get_class

from dpo_lab.cli.conf import groups, stages
from dpo_lab.cli.help import fields_of, groups_of, keys_of, stage_help
from dpo_lab.conf_files import CONF

TARGETS = {stage: re.search(r"^_target_: (\S+)$", (CONF / f"{stage}.yaml").read_text(), re.M)[1] for stage in stages()}  # type: ignore[index]


@pytest.mark.parametrize("stage", stages())
def test_the_fields_read_from_the_text_are_those_of_the_class(stage: str) -> None:
    assert fields_of(TARGETS[stage]) == {field.name for field in fields(get_class(TARGETS[stage]))}


@pytest.mark.parametrize("stage", stages())
def test_a_stage_shows_its_keys_before_the_groups_that_it_takes(stage: str) -> None:
    text = (CONF / f"{stage}.yaml").read_text()
    shown = stage_help(stage)
    keys, _, rest = shown.partition("\ngroups")
    for name, value, _ in keys_of(text):
        assert f"  {name}={'...' if value == '???' else value}" in keys
    listed = set(re.findall(r"^  ([a-z]+) ", rest.partition("single values")[0], re.M))
    assert listed == groups_of(stage, text)


def test_export_shows_what_it_needs_and_no_group_that_it_ignores() -> None:
    shown = stage_help("export")
    assert shown.startswith("usage: dpo-lab export policy=... ")
    assert groups_of("export", (CONF / "export.yaml").read_text()) == {"paths"}


def test_train_takes_every_group() -> None:
    assert groups_of("train", (CONF / "train.yaml").read_text()) == set(groups())


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("stage", stages())
def test_help_stays_within_the_terminal(stage: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    body = stage_help(stage).partition("keys\n")[2]
    assert [line for line in body.splitlines() if len(line) > columns] == []
