"""Commands as real processes, forked from one that has imported the libraries: each saves its ten seconds of imports.

A command has its own arguments, directory, environment and streams, and answers signals as `python train.py` does. How Python
itself starts and ends is a matter of tests/test_start.py and tests/cli.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

from tests.e2e.forked_python import fork_in_place_of_starting, leave

ROOT = Path(__file__).resolve().parents[2]
FIXED = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(Path(tempfile.gettempdir()) / "dpo-lab-tests-hub")}
"""What libraries read while they are imported; equal bits need an equal number of threads."""
IMPORTED = (
    *("lightning.pytorch", "transformers", "transformers.models.mistral.modeling_mistral", "peft", "accelerate", "scipy.stats"),
    *(
        "transformers.generation.utils",
        "matplotlib.pyplot",
        "hydra._internal.hydra",
        "hydra.core.override_parser.overrides_parser",
    ),
)
"""Libraries that runs import where they are needed; all modules of the project are imported beside them."""
EXTRA = ("dpo_lab.dashboard", "dpo_lab.evaluation.harness")
"""What needs an extra of the project, or seconds for a benchmark that few runs have."""


class Command:
    """A program of the project that runs with its words; `poll`, `communicate` and `returncode` are as in `subprocess.Popen`.

    Args:
        program: below the project's directory.
        directory: where it runs; None: here.
        leads: whether it begins a process group, whose number is its own.
        forks: whether the Python processes that it starts are forked too (forked_python).
    """

    def __init__(
        self,
        program: str,
        *words: str,
        directory: Path | None = None,
        leads: bool = False,
        forks: bool = False,
        **variables: str,
    ) -> None:
        self._kept = tempfile.TemporaryDirectory()  # removed with this object
        self.out, self.error = Path(self._kept.name, "out"), Path(self._kept.name, "error")
        self.out.touch()
        self.returncode: int | None = None
        self.leads = leads
        self.pid: int = _ask(
            words=[str(ROOT / program), *words],
            directory=str(directory or Path.cwd()),
            leads=leads,
            forks=forks,
            variables={**os.environ, **FIXED, **variables},
            streams=[str(self.out), str(self.error)],
        )

    def said(self) -> str:
        """Return what stands on its standard output so far."""
        return self.out.read_text(encoding="utf-8")

    def poll(self) -> int | None:
        """Return its exit code, the negative number of the signal that ended it, or None while it runs."""
        if self.returncode is None:
            self.returncode = _ask(ended=self.pid)
        return self.returncode

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        """Wait for its end and return what it wrote to its standard output and to its standard error."""
        limit = time.monotonic() + timeout
        while self.poll() is None:
            assert time.monotonic() < limit, f"it runs for more than {timeout} s: {self.said()[-2000:]}"
            time.sleep(0.02)
        return self.said(), self.error.read_text(encoding="utf-8")

    def stop_when(self, is_reached: Callable[[], object], number: int = signal.SIGKILL) -> None:
        """Wait until something is reached, send a signal and wait for the end; the other processes of its group get it too."""
        while not is_reached():
            assert self.poll() is None, f"it ended before it could be stopped: {self.communicate()}"
            time.sleep(0.01)
        (os.killpg if self.leads else os.kill)(self.pid, number)
        self.communicate(100)


def finished(command: Command, timeout: float = 600) -> str:
    """Return what a command writes to its standard output, once it has ended well."""
    out, error = command.communicate(timeout)
    assert command.returncode == 0, error + out[-2000:]
    return out


@cache
def _server() -> subprocess.Popen[str]:
    """Start the process from which commands are forked; it ends with this one, whose end of the pipe is then closed."""
    environment = {**os.environ, **FIXED, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    words = [sys.executable, str(Path(__file__)), "serve"]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)


def _ask(**request: Any) -> Any:
    server = _server()
    assert server.stdin
    assert server.stdout
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())


def modules() -> list[str]:
    """Return what the process imports from which commands are forked."""
    own = (module.name for module in walk_packages([str(ROOT / "dpo_lab")], "dpo_lab."))
    return [*IMPORTED, *(name for name in own if not name.startswith(EXTRA))]


def serve() -> int:
    """Fork a process for each command that is asked for."""
    gc.disable()  # a seventh of the time that imports take
    for module in modules():
        import_module(module)
    gc.enable()
    gc.freeze()  # collections of a command pass over what it shares with this process
    asked, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for line in iter(asked.readline, ""):  # nothing is read ahead that a forked process would have too
        request = json.loads(line)
        if "ended" in request:
            pid, status = os.waitpid(request["ended"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        elif (answer := os.fork()) == 0:
            asked.close()
            answers.close()
            leave(lambda request=request: _become(request))  # type: ignore[misc]
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0


def _become(request: dict[str, Any]) -> int:
    """Run a command in this process, the charts of its report left empty, a fourth of a small run; return its exit code."""
    if request["leads"]:
        os.setsid()
    for number, path in enumerate(request["streams"], 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(request["variables"])
    os.chdir(request["directory"])
    sys.argv = request["words"]
    beside = [os.path.abspath(place) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    sys.path[:1] = [str(Path(sys.argv[0]).parent), *beside]  # in place of this file's directory
    from dpo_lab.report import charts, ranker
    from dpo_lab.start import run_stage

    if request["forks"]:
        fork_in_place_of_starting()
    for drawing, name in ((charts, "line_chart"), (charts, "histogram"), (ranker, "line_chart")):
        setattr(drawing, name, lambda *values, **settings: "<svg></svg>")

    return run_stage(Path(sys.argv[0]).stem, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(serve())
