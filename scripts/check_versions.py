"""python scripts/check_versions.py [oldest] [newest]: the fast tests on both ends of the libraries that pyproject.toml allows.

Each end is a separate environment in .versions/: the packages of the one that runs this script as hard links, and over them
the libraries of that end. torch and lightning stay, since another torch is gigabytes. What follows `--` goes to pytest, and
--reuse takes the environments of an earlier call, so that the tests can be run in pieces:

    python scripts/check_versions.py --reuse oldest -- tests/golden tests/tokens
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from dpo_lab.start import check

check()

import argparse
import os
import shutil
import subprocess
import sysconfig
import tomllib
from collections.abc import Sequence
from importlib.metadata import version

ENVIRONMENTS = ROOT / ".versions"
ENDS = ("oldest", "newest")
HELD = ("torch", "lightning")


def dependencies() -> list[str]:
    """Return what the package requires, as pyproject.toml writes it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [str(dependency) for dependency in project["dependencies"]]


def at_end(requirement: str, end: str) -> str:
    """Return the requirement that pip installs at an end of the range; what is held is required as it is installed.

    >>> at_end("transformers>=5.17,<5.25", "oldest")
    'transformers==5.17.*'
    >>> at_end("transformers>=5.17,<5.25", "newest")
    'transformers>=5.17,<5.25'
    """
    name, _, bounds = requirement.partition(">=")
    if name in HELD:
        return f"{name}=={version(name)}"
    return f"{name}=={bounds.split(',')[0]}.*" if end == "oldest" else requirement


def linked(source: str, target: str) -> str:
    """Make a hard link, or a copy on another file system; an installer replaces a file and never writes into it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def environment(end: str, *, reuse: bool = False) -> Path:
    """Return the Python of an environment with the libraries of an end, a new one unless one that was finished may be reused."""
    directory = ENVIRONMENTS / end
    python, wanted = directory / "bin" / "python", [at_end(dependency, end) for dependency in dependencies()]
    ready, content = directory / ".ready", "\n".join(wanted)
    if reuse and ready.is_file() and ready.read_text(encoding="utf-8") == content:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(directory)], check=True)
    (packages,) = directory.glob("lib/python*/site-packages")
    shutil.copytree(sysconfig.get_path("purelib"), packages, copy_function=linked, symlinks=True, dirs_exist_ok=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", *wanted]
    subprocess.run(pip, check=True)
    ready.write_text(content, encoding="utf-8")
    return python


def versions(python: Path) -> str:
    """Return the installed version of every dependency, for people."""
    code = (
        "import sys; from importlib.metadata import version as v; print(', '.join(f'{name} {v(name)}' for name in sys.argv[1:]))"
    )
    names = [dependency.partition(">=")[0] for dependency in dependencies()]
    return subprocess.run([str(python), "-c", code, *names], check=True, capture_output=True, text=True).stdout.strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests on each end that was named; return 1 if one failed."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    cut = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description="The fast tests on both ends of the supported versions.")
    parser.add_argument("ends", nargs="*", metavar="oldest|newest", help="which; both without it")
    parser.add_argument("--reuse", action="store_true", help="take the environments of an earlier call, if they are finished")
    given = parser.parse_args(words[:cut])
    ends = given.ends or ENDS
    if unknown := sorted(set(ends) - set(ENDS)):
        parser.error(f"{unknown[0]!r} is not an end of the supported versions; give oldest or newest.")
    failed = []
    for end in ends:
        python = environment(end, reuse=given.reuse)
        print(f"{end}: {versions(python)}", flush=True)
        tests = words[cut + 1 :] or ["--numprocesses", "auto"]
        if subprocess.run([str(python), "-m", "pytest", *tests], cwd=ROOT, check=False).returncode:
            failed.append(end)
    print(f"failed: {', '.join(failed)}" if failed else f"the tests pass on: {', '.join(ends)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
