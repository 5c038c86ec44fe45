"""`make setup` takes the newest supported Python that can make an environment, and says what to install if there is none."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("sh", "bash", "make", "rm", "mkdir", "touch", "head", "cat", "awk", "tr")
PACKAGE = ("dpo_lab/__init__.py", "dpo_lab/start.py", "dpo_lab/signals.py")
NEEDED = ("Makefile", "pyproject.toml", "constraints.txt", "train.py", *PACKAGE)
pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")

FAKE = """
import os, shutil, sys
version, can_make_one, program, *words = sys.argv[1:]
if words[0] == "-c":
    sys.version_info = (*map(int, version.split(".")), 0)
    if can_make_one == "no":
        sys.modules["ensurepip"] = None
    exec(words[1])
elif words[:2] == ["-m", "venv"]:
    os.makedirs(words[2] + "/bin")
    shutil.copy(program, words[2] + "/bin/python")
    open(words[2] + "/bin/activate", "w").write("VIRTUAL_ENV=" + version)
elif words == ["--version"]:
    print("Python", version + ".0")
"""
"""A Python that says it is of some version; its virtual environments remember which one made them."""


class Machine:
    """A checkout, and a PATH with the Pythons that were put there."""

    def __init__(self, directory: Path) -> None:
        self.checkout, self.path = directory / "checkout", directory / "bin"
        self.path.mkdir()
        (self.checkout / "dpo_lab").mkdir(parents=True)
        for name in NEEDED:
            shutil.copy(ROOT / name, self.checkout / name)
        for name in TOOLS:
            if found := shutil.which(name):
                (self.path / name).symlink_to(found)
        (directory / "fake.py").write_text(FAKE)
        self.fake = directory / "fake.py"

    def has(self, name: str, version: str, *, venv: bool = True) -> None:
        """Put a Python there."""
        program = self.path / name
        words = [sys.executable, str(self.fake), version, "yes" if venv else "no"]
        program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$0" "$@"\n')
        program.chmod(0o755)

    def types(self, line: str) -> "subprocess.CompletedProcess[str]":
        """Run a line in bash, in the checkout."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # make runs the tests
        environment = {**mine, "PATH": str(self.path), "UV": ""}
        return subprocess.run(
            [str(self.path / "bash"), "-c", line], cwd=self.checkout, env=environment, capture_output=True, text=True, check=False
        )

    def made_with(self) -> str:
        """Return the version of the Python that made the environment."""
        return (self.checkout / ".venv" / "bin" / "activate").read_text().removeprefix("VIRTUAL_ENV=")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_newest_supported_python_is_taken(machine: Machine) -> None:
    for name, version in (("python3", "3.14"), ("python3.11", "3.11"), ("python3.12", "3.12"), ("python3.13", "3.13")):
        machine.has(name, version)
    done = machine.types("make setup")
    assert (done.returncode, machine.made_with()) == (0, "3.13"), done.stderr


def test_a_system_that_ships_one_python_uses_that(machine: Machine) -> None:
    machine.has("python3", "3.13")  # Debian 13
    assert machine.types("make setup").returncode == 0
    assert machine.made_with() == "3.13"


def test_a_newer_python_that_cannot_make_an_environment_does_not_hide_an_older_one_that_can(machine: Machine) -> None:
    machine.has("python3.13", "3.13", venv=False)
    machine.has("python3.12", "3.12")
    assert machine.types("make setup").returncode == 0
    assert machine.made_with() == "3.12"


def test_without_the_module_venv_the_package_to_install_is_named(machine: Machine) -> None:
    machine.has("python3", "3.13", venv=False)
    done = machine.types("make setup")
    assert done.returncode != 0
    assert "python3 cannot make a virtual environment" in done.stderr
    assert "python3.13-venv" in done.stderr


@pytest.mark.parametrize("version", ["3.10", "3.14"])
def test_a_machine_with_another_python_alone_is_told_which_it_needs(machine: Machine, version: str) -> None:
    machine.has("python3", version)
    done = machine.types("make setup")
    assert done.returncode != 0
    assert f"DPO Lab needs Python 3.11 to 3.13; found: Python {version}.0." in done.stderr
    assert not (machine.checkout / ".venv").exists()


def test_a_python_that_is_named_is_the_one_that_is_used(machine: Machine) -> None:
    machine.has("python3.13", "3.13")
    machine.has("mine", "3.11")
    assert machine.types("make setup PYTHON=mine").returncode == 0
    assert machine.made_with() == "3.11"


def test_what_train_py_says_without_an_environment_makes_and_activates_one(machine: Machine) -> None:
    machine.has("python3.12", "3.12")
    said = machine.types(shlex.join([sys.executable, "-S", "-E", "train.py"]))
    remedy = said.stderr.partition("Type: ")[2].strip()
    done = machine.types(f'{remedy} && echo "$VIRTUAL_ENV"')
    assert done.stdout.splitlines()[-1:] == ["3.12"], remedy + done.stderr


def made(machine: Machine, **programs: str) -> None:
    """Make an environment whose programs are lines of the shell."""
    directory = machine.checkout / ".venv" / "bin"
    directory.mkdir(parents=True)
    for name, line in {"ruff": ":", **programs}.items():
        (directory / name).write_text(f"#!/bin/sh\n{line}\n")
        (directory / name).chmod(0o755)
    for name in (".ready", ".ready-dev"):
        (directory.parent / name).touch()


@pytest.mark.parametrize(("types", "tests", "code"), [(0, 0, 0), (1, 0, 2), (0, 1, 2), (1, 1, 2)])
def test_types_are_checked_beside_the_tests_and_either_fails_make_test(
    machine: Machine, types: int, tests: int, code: int
) -> None:
    waits = "while [ ! -e begun ]; do :; done"  # mypy ends after the tests have begun
    made(machine, mypy=f"{waits}; echo of types; exit {types}", python=f": > begun; exit {tests}")
    done = machine.types("make test")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (code, "of types"), done.stderr


def test_ctrl_c_in_the_tests_ends_the_check_of_types_too(machine: Machine) -> None:
    endless = f"exec {shlex.join([sys.executable, '-c', 'import time; time.sleep(60)'])}"
    made(machine, mypy=f"echo $$ > types; {endless}", python="while [ ! -s types ]; do :; done; kill -INT $PPID")
    assert machine.types("make test").returncode != 0
    process = Path("/proc") / (machine.checkout / "types").read_text().strip()
    until = time.monotonic() + 10
    while process.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not process.exists()
