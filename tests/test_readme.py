"""What the README promises: its commands compose, its tables are those of conf/, its Python runs."""

import ast
import re
import shlex
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from dpo_lab import __version__
from dpo_lab.cli.arguments import FIRST, TOOLS, key_of
from dpo_lab.cli.build import build
from dpo_lab.cli.conf import groups, options, stages
from dpo_lab.cli.main import main, train
from dpo_lab.conf_files import CONF
from dpo_lab.figures import OF_PAIRS, TRAINING

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
INFORMATION = ("--help", "--version", "--cfg")
EXAMPLE = re.findall(r"^```python\n(.*?)^```", README, re.S | re.M)[0]


def commands(start: str) -> list[list[str]]:
    """Return the words after `start` of every command in a bash block or in back quotes, each once.

    >>> commands("make")[0]
    ['run']
    """
    blocks = re.findall(r"^```bash\n(.*?)^```", README, re.S | re.M)
    lines = [line for block in blocks for line in block.splitlines()] + re.findall(r"(?<!`)`([^`\n]+)`(?!`)", README)
    found = [shlex.split(line, comments=True) for line in lines if line.startswith(f"{start} ") or line == start]
    return [list(words) for words in dict.fromkeys(tuple(words[len(start.split()) :]) for words in found)]


def jobs(words: list[str]) -> Iterator[list[str]]:
    """Yield the overrides of every job of a command; with -m each combination of its lists is one."""
    overrides = [word for word in words if word != "-m"]
    choices = [[f"{key_of(word)}={value}" for value in word.split("=")[1].split(",")] for word in overrides]
    yield from map(list, product(*choices)) if "-m" in words else [overrides]


def table_of(first: str) -> dict[str, tuple[list[str], str]]:
    """Return group -> (options, what it decides) of the table whose first group is `first`."""
    rows = README[README.index(f"| `{first}` |") :].split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {group.strip("`"): (re.findall(r"`([^`]+)`", named), decides) for group, named, decides in cells}


TRAININGS = [words for words in commands("python train.py") if not set(words) & set(INFORMATION)]
QUESTIONS = [words for words in commands("python train.py") if set(words) & set(INFORMATION)]


def test_the_readme_names_commands_of_every_kind() -> None:
    assert len(TRAININGS) > 10
    assert len(QUESTIONS) == 2


@pytest.mark.parametrize("words", TRAININGS, ids=" ".join)
def test_a_training_command_composes_and_its_parts_are_built(words: list[str]) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for overrides in jobs(words):
            build(compose("train", overrides, return_hydra_config=True))


@pytest.mark.parametrize("words", QUESTIONS, ids=" ".join)
def test_a_command_that_only_asks_is_answered(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert train(words) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("words", commands("make"), ids=" ".join)
def test_a_make_command_names_a_target_and_known_variables(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        name, is_variable, _ = word.partition("=")
        assert re.search(rf"^{name} \?=" if is_variable else rf"^{name}:.*## ", makefile, re.M)


def test_the_installed_command_knows_the_stage_and_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert {words[0] for words in commands("dpo-lab")} <= {*stages(), *TOOLS}
    main(["--version"])
    assert capsys.readouterr().out == f"dpo-lab {__version__}\n"


def test_the_tables_name_every_group_with_every_option() -> None:
    first, rest = table_of("model"), table_of("adapter")
    assert tuple(first) == FIRST
    assert {group: sorted(named) for group, (named, _) in {**first, **rest}.items()} == {name: options(name) for name in groups()}


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []


def test_the_python_example_has_at_most_15_lines() -> None:
    assert len(EXAMPLE.splitlines()) <= 15


def test_the_python_example_runs_and_gives_the_keys_that_the_readme_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # half a million weights: a second thread costs more than it brings
    try:
        exec(compile(EXAMPLE, "README.md", "exec"), names)
    finally:
        torch.set_num_threads(threads)
    accuracy = ast.literal_eval(capsys.readouterr().out.splitlines()[-1])
    summary = names["run"].run()  # type: ignore[attr-defined]  # finished: returned at once
    assert summary["eval/accuracy"] == accuracy
    listed = set(re.findall(r"`((?:eval|seconds)/[a-z/]+)`", README))
    metrics = {f"eval/{each.name}" for each in TRAINING}
    of_steps = {"eval/loss", *metrics - {f"eval/{pair.name}" for pair in OF_PAIRS}}
    assert metrics - of_steps <= set(summary)
    of_run = {name for name in summary if name.startswith("eval/") and not name.startswith("eval/losses/")}
    of_run -= metrics - {"eval/loss"}
    of_run -= {name for name in of_run if name.endswith(("/low", "/high"))} - listed  # the README says that each has one
    assert of_run == {name for name in listed if name.startswith("eval/")}
    assert "`eval/losses/<loss>`" in README
    assert "eval/losses/dpo" in summary
    assert {name for name in summary if name.startswith("seconds/")} <= listed
