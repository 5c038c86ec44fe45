"""The pages in docs/ agree with the code that they describe."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.metrics import table

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
METHOD = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")


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


def test_the_methods_table_of_metrics_is_that_of_the_code() -> None:
    assert table() in METHOD


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
