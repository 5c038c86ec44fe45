"""The processes that train beside this one, each with its share of every step: started, connected, and ended with it."""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import IO

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from dpo_lab.components import RunError
from dpo_lab.signals import STOPPING
from dpo_lab.training.group import Group, met

HERE = "127.0.0.1"
READY = b"ready\n"
GRACE = 120.0  # seconds that a process has to end after the last step, which all of them take together
Meet = Callable[[], AbstractContextManager[Group]]
"""Returns the context in which a process is connected to the others."""
Work = Callable[[Group, Meet], None]
"""What a process beside the first does: a function of a module, with picklable arguments bound to it."""


@contextmanager
def together(size: int, device: torch.device, work: Work) -> Iterator[Group]:
    """Start `size` - 1 processes that do `work`, and connect them with this one for the block.

    Each is a fresh interpreter that is handed its work, never the command line: as a job of a multirun it would run the whole
    sweep again. They end with the block, whatever ends it, and share this process's threads.

    Raises:
        RunError: if one of them fails, with what it said last.
    """
    if size == 1:
        yield Group()
        return
    group, threads = Group(0, size), torch.get_num_threads()
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)
        torch.set_num_threads(max(1, threads // size))
        store = TCPStore(HERE, 0, is_master=True, wait_for_workers=False)
        others = [start(Group(rank, size), device, store.port, work) for rank in range(1, size)]
        for other in others:
            stack.callback(other.end)
        if any(not other.is_ready() for other in others):
            raise failure(others)
        try:
            with met(group, store, device):
                yield group
        except RuntimeError as error:  # of a connection that is lost
            if any(other.failed() for other in others):
                raise failure(others) from error
            raise
        if any(other.failed(GRACE) for other in others):
            raise failure(others)


@dataclass(frozen=True)
class Other:
    """A process beside the first."""

    name: str
    process: subprocess.Popen[bytes]
    said: IO[bytes]

    def is_ready(self) -> bool:
        """Wait until the process is ready to be connected; return whether it is."""
        assert self.process.stdout
        return self.process.stdout.readline() == READY

    def failed(self, within: float = 5.0) -> bool:
        """Return whether the process ends with an error; its connection is lost a moment before it is gone."""
        try:
            return self.process.wait(within) != 0
        except subprocess.TimeoutExpired:
            return False

    def last_words(self) -> str:
        """Return the last line that the process wrote."""
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")

    def end(self) -> None:
        """End the process if it still runs."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.said):
            if stream:
                stream.close()


def start(group: Group, device: torch.device, port: int, work: Work) -> Other:
    """Start a process and hand it its work; its stdin stays open as long as this process lives."""
    said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", "from dpo_lab.training.processes import run; run()"],  # -P: without the current directory
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        env=surroundings(group.rank, device),
        start_new_session=True,  # Ctrl-C is for the first process, which saves and then ends this one
    )
    assert process.stdin
    pickle.dump(pickle.dumps((work, group, device, port, torch.get_num_threads())), process.stdin)
    process.stdin.flush()
    return Other(f"process {group.rank + 1} of {group.size}", process, said)


def surroundings(rank: int, device: torch.device) -> dict[str, str]:
    """Return the environment of a process: where it finds what this one finds, and the one GPU that it sees."""
    around = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    if device.type == "cuda":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
        around["CUDA_VISIBLE_DEVICES"] = visible.split(",")[rank]
    return around


def failure(others: list[Other]) -> RunError:
    """Return the error that names the process which failed and what it said last."""
    first = next((other for other in others if other.failed()), others[0])
    code = first.process.poll()
    killed = " (killed from outside, perhaps for want of memory)" if code is not None and code < 0 else ""
    return RunError(
        f"{first.name} failed, exit code {code}{killed}: {first.last_words().rstrip('.')}. "
        "The same command resumes from the newest checkpoint; or set trainer.devices=1 to train in one process."
    )


def run() -> None:
    """Do the work of a process beside the first, which hands it over by stdin."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)  # the first process answers them
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed is kept, and read if the process fails
    handed = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    work, group, device, port, threads = pickle.loads(handed)  # imports for seconds, in which the first process may end
    torch.set_num_threads(threads)

    @contextmanager
    def meet() -> Iterator[Group]:
        store = TCPStore(HERE, port, timeout=timedelta(minutes=5))
        answer.write(READY)
        answer.flush()
        with met(group, store, device):
            yield group

    work(group, meet)


def _end_with_the_first() -> None:
    os.read(0, 1)  # nothing more is sent: returns when the first process is gone; sys.stdin would abort this one's ordinary end
    os._exit(1)
