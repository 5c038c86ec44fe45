"""The pages in docs/ agree with the code that they describe."""

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from dpo_lab.cli.arguments import key_of
from dpo_lab.cli.build import build
from dpo_lab.components import Component
from dpo_lab.conf_files import CONF
from scripts.tables import PAGES as PAGES_WITH_TABLES

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
METHOD = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")


def rows_of(text: str, header: str) -> list[list[str]]:
    """Return the cells of the rows of the table whose header begins so."""
    lines = text[text.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


ELSEWHERE = rows_of((ROOT / "docs" / "coming_from.md").read_text(encoding="utf-8"), "| from | their setting |")
COMING = [command for *_, cell in ELSEWHERE for command in re.findall(r"`python train\.py ([^`]+)`", cell)]


def named(text: str) -> list[str]:
    """Return the dotted names of the package's objects in back quotes."""
    return list(dict.fromkeys(re.findall(r"`(dpo_lab(?:\.\w+)+)`", text)))


def resolved(name: str) -> Any:
    """Return the object of a dotted name."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            found = getattr(found, attribute)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("name", named(METHOD))
def test_the_method_names_objects_that_exist(name: str) -> None:
    assert resolved(name) is not None


@pytest.mark.parametrize("page", list(PAGES_WITH_TABLES))
def test_tables_that_conf_and_the_code_determine_are_up_to_date(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert PAGES_WITH_TABLES[page](text) == text, "run `make tables`"


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("http") and not (ROOT / "docs" / link).exists()] == []


def test_the_kinds_of_artifacts_are_those_that_the_code_plans() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "dpo_lab").rglob("*.py")]
    planned = {kind for source in sources for kind in re.findall(r'Plan\([\w.]+, "(\w+)"', source)}
    pipeline = (ROOT / "docs" / "pipeline.md").read_text(encoding="utf-8")
    table = pipeline[pipeline.index("| kind |") :].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == planned


def jobs(words: list[str]) -> Iterator[list[str]]:
    """Yield the overrides of every job of a command; with -m each combination of its lists is one."""
    overrides = [word for word in words if word != "-m"]
    choices = [[f"{key_of(word)}={value}" for value in word.split("=")[1].split(",")] for word in overrides]
    yield from map(list, product(*choices)) if "-m" in words else [overrides]


def test_every_row_of_coming_from_elsewhere_has_a_command() -> None:
    assert [row for row in ELSEWHERE if not re.search(r"`python (train|scripts/\w+)\.py [^`]+`", row[-1])] == []
    assert {row[0] for row in ELSEWHERE} == {"TRL", "axolotl", "ms-swift", "Mitchell", "HALOs"}


@pytest.mark.parametrize("command", list(dict.fromkeys(COMING)))
def test_a_command_for_those_who_come_from_elsewhere_composes(command: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for overrides in jobs(shlex.split(command)):
            assert isinstance(build(compose("train", overrides, return_hydra_config=True)), Component)
