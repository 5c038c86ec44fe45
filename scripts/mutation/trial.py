"""Runs tests on a tree in a forked process: what was imported before the fork is not imported again."""

import contextlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GRACE, PATIENCE = 60, 20
"""CPU-seconds in which one test ends; wall seconds for each CPU-second, on a busy machine."""
PORTION = 3
"""Files of tests that are collected at a time: to collect all that import a file takes longer than the nearest ones run."""


@dataclass(frozen=True)
class Outcome:
    """What the tests said."""

    failed: str
    """The first test that failed, or file that could not be collected; empty if none did."""
    passed: int
    """Tests that passed before."""
    endless: bool
    """Whether a test did not end."""
    spent: bool
    """Whether the time was over before all tests had run."""


class Watch:
    """A pytest plugin: stops when the time is over, and writes after each test what came out."""

    def __init__(self, report: Path, seconds: float) -> None:
        self.report, self.seconds = report, seconds
        self.found: dict[str, Any] = {"failed": "", "passed": 0, "spent": False}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note the first failure, and how many passed."""
        if report.failed and not self.found["failed"]:
            self.found["failed"] = report.nodeid
        self.found["passed"] += report.when == "call" and report.passed
        self._write()

    def pytest_collectreport(self, report: Any) -> None:
        """Note a file that cannot be imported."""
        if report.failed and not self.found["failed"]:
            self.found["failed"] = report.nodeid or "collection"
            self._write()

    def pytest_runtest_teardown(self, item: Any) -> None:
        """Stop after the test in which the time was over."""
        if spent() > self.seconds:
            self.found["spent"] = True
            self._write()
            item.session.shouldstop = "the time is over"

    def _write(self) -> None:
        self.report.write_text(json.dumps(self.found))


def spent() -> float:
    """Return the CPU-seconds of this process and of those that it started and that ended."""
    return sum(os.times()[:4])


def portions(tests: Sequence[str]) -> Iterator[list[str]]:
    """Yield the tests a few at a time.

    >>> list(portions(["a", "b", "c", "d", "e"]))
    [['a', 'b', 'c'], ['d', 'e']]
    """
    for begin in range(0, len(tests), PORTION):
        yield list(tests[begin : begin + PORTION])


def tried(tree: Path, tests: list[str], seconds: float, without: list[str]) -> Outcome:
    """Run tests of a tree until one fails or the CPU-seconds are over.

    Args:
        without: tests, and files of tests, that are left out.
    """
    report = tree.parent / "report.json"
    report.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        _run(tree, tests, seconds, without, report)
    status = _waited(child, PATIENCE * (seconds + GRACE))
    found: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {"failed": "", "passed": 0, "spent": False}
    code = os.waitstatus_to_exitcode(status)
    endless = code in (-signal.SIGXCPU, -signal.SIGKILL)
    if code not in (0, 1, 2) and not endless and not found["failed"]:
        found["failed"] = f"the process ended with {code}"
    return Outcome(found["failed"], found["passed"], endless, found["spent"])


def _waited(child: int, seconds: float) -> int:
    """Return the exit status of a child, which is killed when the wall seconds are over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def _run(tree: Path, tests: list[str], seconds: float, without: list[str], report: Path) -> None:
    """Run pytest in this process, which ends."""
    code = 3
    with contextlib.suppress(BaseException):
        import pytest

        used = spent()
        limit = int(time.process_time() + seconds + GRACE)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
        os.chdir(tree)
        sys.path[:] = [str(tree), *(place for place in sys.path if place not in ("", str(Path(__file__).resolve().parents[2])))]
        for name in [name for name in sys.modules if name.split(".")[0] in ("dpo_lab", "scripts", "tests")]:
            del sys.modules[name]
        with (tree.parent / "output.txt").open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            left_out = [f"{'--deselect' if '::' in test else '--ignore'}={test}" for test in without]
            options = ["-x", "--no-header", "--tb=short", "--rootdir", str(tree), *left_out]
            watch = Watch(report, used + seconds)
            for portion in portions(tests):
                code = int(pytest.main([*options, *portion], plugins=[watch]))
                code *= code != pytest.ExitCode.NO_TESTS_COLLECTED
                if code or watch.found["spent"]:
                    break
    os._exit(code)
