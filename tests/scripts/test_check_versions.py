"""Both ends of the supported versions: what is installed at each, and that the environment below it stays as it is."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from scripts.check_versions import ENDS, HELD, at_end, dependencies, linked, main

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("written", dependencies())
def test_the_oldest_is_the_first_version_of_the_range_and_the_newest_the_whole_range(written: str) -> None:
    wanted, (oldest, newest) = Requirement(written), (at_end(written, end) for end in ENDS)
    if wanted.name in HELD:
        assert oldest == newest == f"{wanted.name}=={version(wanted.name)}"
        assert wanted.specifier.contains(version(wanted.name))
    else:
        first = min(each.version for each in wanted.specifier if each.operator == ">=")
        assert (newest, oldest) == (written, f"{wanted.name}=={first}.*")
        assert Requirement(oldest).specifier.contains(first)


def test_a_file_that_an_installer_replaces_stays_as_it_was_in_the_environment_below(tmp_path: Path) -> None:
    (tmp_path / "below").write_text("5.23")
    there = Path(linked(str(tmp_path / "below"), str(tmp_path / "above")))
    assert there.samefile(tmp_path / "below")
    there.unlink()
    there.write_text("5.24")
    assert (tmp_path / "below").read_text() == "5.23"


def test_an_end_that_does_not_exist_is_refused_before_anything_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["older"])
    assert "'older' is not an end of the supported versions; give oldest or newest." in capsys.readouterr().err


def test_the_tested_version_of_every_dependency_is_inside_its_range() -> None:
    tested = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M))
    for written in dependencies():
        wanted = Requirement(written)
        found = {name.lower().replace("_", "-"): number for name, number in tested.items()}[wanted.name]
        assert wanted.specifier.contains(found), f"{written}: constraints.txt has {found}"
