"""CONTRIBUTING.md is followed in a copy of the project, to the letter, and the tests that concern the new part pass in it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_contributing import FILES, ROOT, TEXT

pytestmark = pytest.mark.slow

COPIED = (
    *("dpo_lab", "conf", "docs", "scripts", "tests", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile"),
    *("LICENSE", "constraints.txt", "pyproject.toml", "train.py"),
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the project."""
    for name in COPIED:
        source, target = ROOT / name, tmp_path / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return tmp_path


def written(checkout: Path, name: str, block: str = "") -> None:
    """Write a file of the guide into the copy; `block`: the name that stands above its text, if it is another one."""
    assert not (checkout / name).exists()
    (checkout / name).write_text(FILES[block or name], encoding="utf-8")


def said(checkout: Path, *words: str) -> str:
    """Return what a Python program says in the copy, which has to end well."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def section(title: str) -> str:
    """Return the text of a section of the guide."""
    start = TEXT.index(f"# {title}\n")
    return TEXT[start : TEXT.index("\n## ", start + 1)]


def test_a_loss_is_one_class_and_one_yaml(checkout: Path) -> None:
    steps = re.findall(r"^\d\. (.*?)(?=^\d\. |^Nothing else)", section("In the project"), re.S | re.M)
    class_file = re.findall(r"`(dpo_lab/\S+\.py)`", steps[0])[0]
    yaml_file = re.findall(r"`(conf/\S+\.yaml)`", steps[1])[0]
    assert "make tables" in steps[2]
    assert "CHANGELOG.md" in steps[3]
    written(checkout, class_file, "my_losses/exponential.py")
    written(checkout, yaml_file)
    assert said(checkout, "scripts/tables.py").count("written") == 3  # README, the method, the public names
    tests = ["tests/losses", "tests/test_conf.py", "tests/test_docs.py", "tests/test_architecture.py"]
    tests += ["tests/test_public_names.py", "tests/cli/test_cli_help.py", "dpo_lab/losses"]
    concerned = "exponential or tables or architecture or public_names"  # by its name, and what reads the whole tree
    passed = said(checkout, "-m", "pytest", "-x", "-vv", "-n", "0", "-k", concerned, *tests)
    assert len(re.findall(r"exponential.* PASSED", passed)) > 15  # found by walking conf/ and the package


def test_a_stage_is_a_class_a_yaml_and_a_script(checkout: Path) -> None:
    files = re.findall(r"\*\*`(\S+)`\*\*", section("A stage"))
    assert [name.partition("/")[0] for name in files] == ["dpo_lab", "conf", "scripts"]
    for name in files:
        written(checkout, name)
    assert "make tables" in section("A stage")
    assert said(checkout, "scripts/tables.py").count("written") == 1  # the public names
    shown = said(checkout, "scripts/lengths.py", "data=jsonl", "data.path=docs/example_pairs.jsonl")
    assert re.findall(r"(?:chosen|rejected) +\d+\.\d words", shown) == shown.splitlines()[-2:]
    assert "lengths" in said(checkout, "-m", "dpo_lab.cli.main", "--help")
    tests = [
        "tests/test_conf.py",
        "tests/test_start.py",
        "tests/test_architecture.py",
        "tests/test_readme.py",
        "tests/test_docs.py",
    ]
    tests += ["tests/cli/test_cli_help.py", "tests/cli/test_cli_completion.py", "dpo_lab/stages", "dpo_lab/cli"]
    concerned = "lengths or not ["  # by its name, and what has no cases or walks the tree
    passed = said(checkout, "-m", "pytest", "-x", "-vv", "-n", "0", "-k", concerned, *tests)
    assert len(re.findall(r"lengths.* PASSED", passed)) > 5


def test_a_row_format_is_one_object(checkout: Path) -> None:
    (name,) = re.findall(r"\*\*`(\S+)`\*\*", section("A row format"))
    written(checkout, name)
    table = checkout / name.replace("duels.py", "__init__.py")
    text = table.read_text(encoding="utf-8").replace("] = (*", "] = (*DUELS, *", 1)
    table.write_text(text.replace("\nfrom", "\nfrom dpo_lab.data.formats.duels import DUELS\nfrom", 1), encoding="utf-8")
    row = '{"question": "Is fire cold?", "answer_a": "Very.", "answer_b": "No, it is hot.", "winner": "b"}'
    (checkout / "duels.jsonl").write_text(row, encoding="utf-8")
    read = "from dpo_lab.data.sources import FilePairs; from pathlib import Path"
    read += "; (pair,) = FilePairs(path=Path('duels.jsonl'), held_out=0).load()[0].train; print(pair.chosen, '|', pair.rejected)"
    assert said(checkout, "-c", read) == "No, it is hot. | Very.\n"
    said(checkout, "-m", "pytest", "-x", name, "dpo_lab/data", "tests/data/test_formats.py")
