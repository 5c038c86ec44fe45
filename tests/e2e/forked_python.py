"""Python processes that a command starts, forked from it in place of a new interpreter, which imports for ten seconds.

It is for tests of what becomes of the jobs of a launcher. That a job works in a new interpreter is a fact of tests that leave
this out. A process that has computed gradients cannot be forked (torch refuses the next ones), so it is for launchers alone.
"""

import os
import runpy
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import Any

PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
NEVER = (signal.SIGKILL, signal.SIGSTOP)


def fork_in_place_of_starting() -> None:
    """Let this process fork where it would start another Python by `subprocess`, as submitit does, or by joblib."""
    plain = subprocess.Popen._execute_child  # type: ignore[attr-defined]
    parameters = signature(plain)

    def execute(popen: Any, *arguments: Any) -> None:
        asked = parameters.bind(popen, *arguments).arguments
        words = asked["args"]
        if asked["shell"] or isinstance(words, str) or words[0] != sys.executable or "multiprocessing" in str(words):
            return plain(popen, *arguments)  # type: ignore[no-any-return]
        flush()
        if (pid := os.fork()) == 0:
            leave(lambda: as_new(asked))
        popen.pid, popen._child_created = pid, True
        popen._close_pipe_fds(*(asked[name] for name in PIPES))
        return None

    subprocess.Popen._execute_child = execute  # type: ignore[attr-defined]
    warnings.filterwarnings("ignore", "`fork` start method should not be used")
    if find_spec("joblib"):
        import_module("joblib.externals.loky.backend.context").set_start_method("fork")


def as_new(asked: dict[str, Any]) -> None:
    """Be what a new interpreter is: its streams, directory, environment, signals, and its program run to its end."""
    if asked["start_new_session"]:
        os.setsid()
    for number, end in enumerate((asked["p2cread"], asked["c2pwrite"], asked["errwrite"])):
        if end != -1:
            os.dup2(end, number)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in [int(name) for name in os.listdir("/dev/fd") if int(name) > 2]:
        with suppress(OSError):  # what listed them
            os.fstat(number)
            os.dup2(nothing, number)  # it is the parent's, whose lock would not end with it; an object here may close the number
    for each in set(signal.valid_signals()) - set(NEVER):
        if callable(signal.getsignal(each)):
            signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
    if asked["env"] is not None:
        os.environ.clear()
        os.environ.update(asked["env"])
    os.chdir(asked["cwd"] or ".")
    words = [word for word in asked["args"][1:] if word not in ("-u", "-B")]
    assert words[0] == "-m", f"a program that is not a module: {words}"
    sys.argv = words[1:]
    runpy.run_module(words[1], run_name="__main__", alter_sys=True)


def leave(program: Callable[[], object]) -> None:
    """Run a program and end this process as an interpreter ends, but for taking apart what was imported: a second."""
    import atexit
    import threading

    try:
        code = program()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)  # noqa: T201
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    flush()
    os._exit(code if isinstance(code, int) else 0)


def flush() -> None:
    """Write what is printed and not written yet; a stream may be closed or have no reader."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
