"""The wheel works where there is no checkout: its own conf/, its own command, its types."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from dpo_lab import __version__

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Installed:
    """The wheel, and an environment that sees the dependencies but not the checkout."""

    wheel: Path
    environment: Path
    elsewhere: Path
    """The directory that commands run in."""

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a program of the environment."""
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
        program = str(self.environment / "bin" / command[0])
        return subprocess.run([program, *command[1:]], cwd=self.elsewhere, env=clean, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel and install it; no network, nothing left in the checkout."""
    tmp = tmp_path_factory.mktemp("wheel")
    built = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp / "dist")]
    subprocess.run(built, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = (tmp / "dist").glob("*.whl")
    environment = tmp / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    # a path in a .pth file is searched last, and its own .pth files are not read: an editable install stays out of sight
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--ignore-installed", str(wheel)], cwd=tmp, capture_output=True, check=True)
    elsewhere = tmp / "elsewhere"
    elsewhere.mkdir()
    return Installed(wheel, environment, elsewhere)


def test_the_wheel_carries_every_yaml_and_says_that_it_is_typed(installed: Installed) -> None:
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    yamls = {f"dpo_lab/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert yamls | {"dpo_lab/py.typed", "dpo_lab/__init__.pyi"} <= names


def test_the_wheel_holds_the_package_and_nothing_else(installed: Installed) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"dpo_lab", "hydra_plugins", f"dpo_lab-{__version__}.dist-info"}
    assert [name for name in names if name.startswith("hydra_plugins/")] == ["hydra_plugins/dpo_lab_search.py"]


def test_away_from_the_checkout_conf_is_the_wheels_own(installed: Installed) -> None:
    code = "import dpo_lab.cli.main, dpo_lab.cli.conf; print(dpo_lab.cli.main.__file__); print(dpo_lab.cli.conf.CONF)"
    done = installed.run("python", "-c", code)
    module, conf = map(Path, done.stdout.splitlines())
    assert module.is_relative_to(installed.environment), done.stderr
    assert conf == module.parents[1] / "conf"


def test_the_installed_command_says_its_version(installed: Installed) -> None:
    assert installed.run("dpo-lab", "--version").stdout == f"dpo-lab {__version__}\n"


def test_the_installed_command_trains_and_writes_where_it_is_called(installed: Installed) -> None:
    done = installed.run("dpo-lab", "train", "debug=fast", "trainer=cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in installed.elsewhere.iterdir()] == ["outputs"]
    assert len(list(installed.elsewhere.glob("outputs/train/*/summary.json"))) == 1


def test_the_sweeper_of_the_wheel_is_found(installed: Installed) -> None:
    done = installed.run("dpo-lab", "train", "--cfg", "hydra", "sweep=lr_beta_search")
    assert "_target_: hydra_plugins.dpo_lab_search.Search" in done.stdout, done.stderr
    done = installed.run("dpo-lab", "train", "sweep=lr_beta_search", "hydra.sweeper.trials=0")
    assert "hydra.sweeper.trials=0: it is at least 1." in done.stderr, done.stderr


def test_a_typo_is_a_usage_error_that_names_the_nearest_option(installed: Installed) -> None:
    done = installed.run("dpo-lab", "train", "loss=ippo")
    assert (done.returncode, "Did you mean 'ipo'?" in done.stderr) == (2, True), done.stderr
