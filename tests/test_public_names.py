"""`from dpo_lab import NAME`: every class behind an option of conf/, imported when it is first asked for."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import dpo_lab

STUB = ast.parse(Path(dpo_lab.__file__).with_name("public.pyi").read_text(encoding="utf-8"))
HOMES = {alias.name: str(line.module) for line in STUB.body if isinstance(line, ast.ImportFrom) for alias in line.names}


@pytest.mark.parametrize("name", sorted(HOMES))
def test_a_public_name_is_the_class_of_its_module(name: str) -> None:
    assert getattr(dpo_lab, name) is getattr(importlib.import_module(HOMES[name]), name)


def test_completion_offers_the_public_names() -> None:
    assert set(HOMES) < set(dir(dpo_lab))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'dpo_lab' has no attribute 'DPOLos'"):
        dpo_lab.DPOLos  # noqa: B018


def test_importing_the_package_imports_none_of_its_classes() -> None:
    code = "import sys, dpo_lab; print([name for name in sys.modules if name.startswith('dpo_lab.') or name == 'torch'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
