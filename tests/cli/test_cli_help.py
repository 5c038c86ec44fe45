"""`--help` of each stage: its keys first, then the groups that it takes, within the terminal's width."""

import re
from dataclasses import fields

import pytest
from hydra.utils import get_class

from dpo_lab.cli.conf import groups, stages
from dpo_lab.cli.help import fields_of, groups_of, keys_of, stage_help
from dpo_lab.cli.main import main
from dpo_lab.conf_files import CONF

TARGETS = {stage: re.search(r"^_target_: (\S+)$", (CONF / f"{stage}.yaml").read_text(), re.M)[1] for stage in stages()}  # type: ignore[index]
CALLS = [[], *([name, "--help"] for name in [*stages(), "verify", "compare", "ls", "clean"])]


@pytest.mark.parametrize("stage", stages())
def test_the_fields_read_from_the_text_are_those_of_the_class(stage: str) -> None:
    assert fields_of(TARGETS[stage]) == [field.name for field in fields(get_class(TARGETS[stage]))]


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
@pytest.mark.parametrize(
    "words", [[], *([name, "--help"] for name in [*stages(), "verify", "compare", "ls", "clean"])], ids=" ".join
)
def test_help_stays_within_the_terminal(
    words: list[str], columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    main(words)
    shown = capsys.readouterr().out
    assert shown.startswith("usage: dpo-lab ")
    assert [line for line in shown.splitlines() if len(line) > columns] == []


def test_what_is_folded_stands_below_its_own_beginning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    main(["--help"])
    shown = capsys.readouterr().out
    assert "  rank         Ranks answers that were made elsewhere, and\n               makes pairs of them\n" in shown
    assert '"$(dpo-lab completion)"' in shown
