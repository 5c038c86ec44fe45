"""The mutation script: its faults are small and compile, the nearest tests come first, and what no test sees is told apart."""

from pathlib import Path

import pytest

from scripts.mutants import Trials, difference, drawn
from scripts.mutation.faults import OPERATORS, faults_of
from scripts.mutation.nearest import nearest_tests

SOURCE = b'''"""A part: 1 + 1."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """Holds 2 < 3."""

    width: int = 2

    def area(self, height: float, text: str = "caf\xc3\xa9 1 < 2") -> float:
        if height <= 0:
            raise ValueError(f"{height} is not > 0")
        kept = {"width": self.width, "height": height}
        kept.update(more=1)
        return pow(self.width, height) * height.conjugate().real + len(kept)
'''


def test_faults_are_one_of_each_kind_and_leave_texts_annotations_and_messages_alone() -> None:
    found = {(fault.operator, fault.line, fault.before, fault.after) for fault in faults_of("part.py", SOURCE)}
    assert ("item", 6, "dataclass(frozen=True)", "dataclass()") in found
    assert ("constant", 6, "True", "False") in found
    assert ("constant", 10, "2", "3") in found
    assert ("comparison", 13, "height <= 0", "height < 0") in found
    assert ("statement", 14, 'raise ValueError(f"{height} is not > 0")', "pass") in found
    assert ("item", 15, '{"width": self.width, "height": height}', "{'height': height}") in found
    assert ("statement", 16, "kept.update(more=1)", "pass") in found
    assert ("argument", 17, "pow(self.width, height)", "pow(height, self.width)") in found
    assert ("call", 17, "height.conjugate()", "(height)") not in found, "it is a name: nothing is left of its call"
    assert {line for _, line, _, _ in found} == {6, 10, 13, 14, 15, 16, 17}
    assert {operator for operator, *_ in found} == set(OPERATORS) - {"call"}


def test_every_fault_changes_the_source_and_still_compiles() -> None:
    for fault in faults_of("part.py", SOURCE):
        changed = fault.put_into(SOURCE)
        assert changed != SOURCE
        compile(changed, "part.py", "exec")
        assert difference(fault, SOURCE)


def test_a_draw_follows_from_its_seed_and_has_every_operator() -> None:
    faults = faults_of("part.py", SOURCE)
    assert drawn(faults, 8, 3) == drawn(faults, 8, 3) != drawn(faults, 8, 4)
    assert set(drawn(faults, len(faults), 0)) == set(faults)
    assert {fault.operator for fault in drawn(faults, len(faults), 0)} == {fault.operator for fault in faults}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A package of two files and three tests; the sum has no test for a negative bound."""
    files = {
        "pyproject.toml": "[tool.pytest.ini_options]\npythonpath = ['.']\n",
        "dpo_lab/__init__.py": "",
        "dpo_lab/low.py": "def bounded(value):\n    return value if value >= 0 else 0\n",
        "dpo_lab/high.py": "from dpo_lab.low import bounded\n\ndef total(values):\n    return sum(map(bounded, values))\n",
        "tests/test_high.py": "from dpo_lab.high import total\n\ndef test_total() -> None:\n    assert total([1, -2]) == 1\n",
        "tests/test_low.py": "from dpo_lab.low import bounded\n\ndef test_bounded() -> None:\n    assert bounded(3) == 3\n",
        "tests/test_other.py": "def test_nothing() -> None:\n    assert True\n",
    }
    for name, text in files.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "tree"


def test_tests_that_import_a_file_come_nearest_first_and_no_others(tree: Path) -> None:
    assert nearest_tests(tree, "dpo_lab/low.py") == ["tests/test_low.py", "tests/test_high.py"]
    assert nearest_tests(tree, "dpo_lab/high.py") == ["tests/test_high.py"]


def test_of_equally_near_tests_the_one_that_is_named_after_the_file_and_its_directory_comes_first(tree: Path) -> None:
    for name, text in (("dpo_lab/part/low.py", ""), ("tests/part/test_a.py", ""), ("tests/part/test_part_low.py", "# longer\n")):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(f"import dpo_lab.part.low\n{text}" if "test" in name else text)
    assert nearest_tests(tree, "dpo_lab/part/low.py") == ["tests/part/test_part_low.py", "tests/part/test_a.py"]


@pytest.mark.slow
def test_a_fault_is_seen_by_a_test_that_fails_or_survives_and_the_source_is_put_back(tree: Path) -> None:
    path = tree / "dpo_lab/low.py"
    source = path.read_bytes()
    faults = {(fault.before, fault.after): fault for fault in faults_of("dpo_lab/low.py", source)}
    trials = Trials(tree, seconds=30)
    same = trials.outcome(faults["value >= 0", "value > 0"])  # 0 is 0 either way
    assert (same.failed, same.passed, same.spent) == ("", 2, False)
    assert trials.outcome(faults["0", "1"]).failed
    (tree / "tests/test_low.py").write_text(
        "from dpo_lab.low import bounded\n\ndef test_wrong() -> None:\n    assert bounded(3) == 4\n"
    )
    wrong = trials.outcome(faults["value >= 0", "value > 0"])
    assert wrong.failed == ""
    assert trials.fails_anyway == ["tests/test_low.py::test_wrong"], "a test that fails without a fault says nothing"
    assert path.read_bytes() == source
