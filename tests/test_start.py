"""A Python that cannot run the project gets one line with what to type, from every script and before anything is imported."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from dpo_lab import start

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCRIPTS = ["train.py", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "scripts").glob("*.py"))]
STAGES = [script for script in SCRIPTS if (ROOT / "conf" / Path(script).with_suffix(".yaml").name).exists()]
READ_FIRST = ["dpo_lab/__init__.py", "dpo_lab/start.py", "dpo_lab/signals.py", *STAGES]
WITHOUT_PACKAGES = [sys.executable, "-S", "-E"]  # -S: as outside of the virtual environment
PYTHONS = "DPO Lab needs Python 3.11, 3.12 or 3.13"
REMEDY = "Type: make setup && source .venv/bin/activate\n"


def ran(*command: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def interpreter(version: str) -> str:
    """Return a Python of a version that this machine has; the test is skipped without one."""
    homes = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for name in (f"python{version}", *map(str, homes)):
        if shutil.which(name) and ran(name, "--version").returncode == 0:
            return name
    pytest.skip(f"no Python {version} on this machine")


@pytest.mark.parametrize("script", SCRIPTS)
def test_without_the_packages_every_script_says_in_one_line_what_to_type(script: str) -> None:
    done = ran(*WITHOUT_PACKAGES, script)
    here = f"Python {sys.version.split()[0]} ({sys.executable})"
    packages = f"torch, lightning, transformers and {len(start.MODULES) - 3} more packages"
    said = f"error: {PYTHONS} with its packages: {packages} not installed for {here}. "
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said + REMEDY)


@pytest.mark.parametrize(
    ("script", "version"),
    [*((script, "3.6") for script in STAGES), *((script, version) for script in SCRIPTS for version in ("3.8", "3.10"))],
)
def test_a_python_that_is_too_old_is_named_and_not_met_by_a_syntax_error(script: str, version: str) -> None:
    done = ran(interpreter(version), script)
    line = rf"error: {re.escape(PYTHONS)}; this is Python {re.escape(version)}\.\d+ \(.+\)\. {re.escape(REMEDY)}"
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(line, done.stderr), done.stderr


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_a_supported_python_without_the_packages_is_not_called_wrong(version: str) -> None:
    done = ran(interpreter(version), "-S", "train.py")
    assert done.stderr.startswith(f"error: {PYTHONS} with its packages: torch, ")
    assert f"not installed for Python {version}." in done.stderr


@pytest.mark.parametrize("version", [(3, 10), (3, 14), (4, 0)])
def test_a_python_outside_of_the_range_is_refused_even_for_help(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int]
) -> None:
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
    with pytest.raises(SystemExit, match=f"error: {PYTHONS}; this is"):
        start.run_stage("train", ["--help"])


@pytest.mark.parametrize("file", [*READ_FIRST, *(script for script in SCRIPTS if script not in READ_FIRST)])
def test_what_is_read_before_the_check_is_written_for_old_pythons(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 6) if file in READ_FIRST else (3, 8))
    assert "from __future__ import annotations" not in text, "Python 3.6 does not know it"


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_what_needs_no_package_is_answered_without_them(words: list[str]) -> None:
    done = ran(*WITHOUT_PACKAGES, "train.py", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_away_from_the_checkout_the_remedy_names_it(tmp_path: Path) -> None:
    done = ran(*WITHOUT_PACKAGES, str(ROOT / "train.py"), cwd=tmp_path)
    assert done.stderr.endswith(f"Type: make -C {ROOT} setup && source {ROOT}/.venv/bin/activate\n")


def test_in_the_projects_own_environment_a_lost_package_is_installed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "MODULES", ("torch", "lost"))
    monkeypatch.setattr(sys, "prefix", str(ROOT / ".venv"))
    monkeypatch.chdir(ROOT)
    assert start.problem().endswith(
        f"lost not installed for Python {sys.version.split()[0]} ({sys.executable}). Type: make -B setup"
    )


def test_a_directory_with_the_name_of_a_package_is_not_that_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lost").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(start, "MODULES", ("lost",))
    assert "lost not installed" in start.problem()


def test_this_python_has_what_it_needs() -> None:
    assert start.problem() == ""


def test_every_dependency_is_looked_for_under_its_module() -> None:
    owners = {module: {name.lower() for name in names} for module, names in packages_distributions().items()}
    wanted = {Requirement(each).name for each in PROJECT["dependencies"]}
    assert wanted == {name for module in start.MODULES for name in owners[module] if name in wanted}
    assert len(start.MODULES) == len(wanted)


def test_the_supported_pythons_are_the_same_everywhere() -> None:
    wanted = SpecifierSet(PROJECT["requires-python"])
    minors = [minor for minor in range(30) if wanted.contains(f"3.{minor}")]
    assert [(3, minors[0]), (3, minors[-1])] == [start.OLDEST, start.NEWEST]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.findall(r"^PYTHONS := (.*)$", makefile, re.M) == [" ".join(f"3.{minor}" for minor in reversed(minors))]
    listed = f"Python {', '.join(f'3.{minor}' for minor in minors[:-1])} or 3.{minors[-1]}"
    assert start.problem() or listed in PYTHONS
    assert f"**Installing.** {listed};" in (ROOT / "README.md").read_text(encoding="utf-8")
    from_to = f"3.{minors[0]} to 3.{minors[-1]}"
    for file in ("Makefile", "constraints.txt", "scripts/gpu_check.sh"):
        assert from_to in (ROOT / file).read_text(encoding="utf-8"), file


@pytest.mark.parametrize("call", ["start.run_stage('train', [])", "start.main()"])
@pytest.mark.parametrize(
    ("name", "code", "how"),
    [("SIGINT", 130, "Ctrl-C"), ("SIGTERM", 75, "SIGTERM"), ("SIGHUP", 75, "SIGHUP, since its terminal was closed")],
)
def test_a_signal_during_the_imports_ends_with_a_line_and_no_traceback(call: str, name: str, code: int, how: str) -> None:
    program = (
        "import os, signal, sys; from dpo_lab import start; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); "
        f"start.check = lambda: os.kill(os.getpid(), signal.{name}); sys.exit({call})"
    )
    done = ran(sys.executable, "-c", program)
    assert (done.returncode, done.stderr) == (code, f"\nstopped by {how}. Nothing had begun.\n")
