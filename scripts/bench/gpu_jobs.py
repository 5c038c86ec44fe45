"""The process that does the jobs of gpu_check.sh: started when one is needed, stopped when one takes too long, started again."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "scripts.bench.gpu_worker")


class Worker:
    """Takes a job as one line of JSON and gives its answer as one; what libraries print goes to a log."""

    def __init__(self, *, tiny: bool, log: Path, command: tuple[str, ...] = COMMAND) -> None:
        self.command = (*command, *(("--tiny",) if tiny else ()))
        self.log = log
        self.log.write_bytes(b"")
        self.process: subprocess.Popen[bytes] | None = None
        self.unread = b""

    def __enter__(self) -> Self:
        """Return itself; the process begins with the first job."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.stop()

    def started(self) -> subprocess.Popen[bytes]:
        """Return the process, a new one if there is none."""
        if self.process is None:
            self.unread = b""
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    self.command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
                )
        return self.process

    def stop(self) -> None:
        """End the process and those that it started."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def ask(self, job: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return a job's answer; one with `failed` if it took too long or ended the process."""
        process, until = self.started(), time.monotonic() + seconds
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return self.ended()
        while b"\n" not in self.unread:
            left = until - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                self.stop()
                return {"failed": f"stopped after {seconds:.0f} s"}
            part = os.read(process.stdout.fileno(), 65536)
            if not part:
                return self.ended()
            self.unread += part
        line, _, self.unread = self.unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if answer.pop("broken", False):  # after an error of CUDA's nothing works in that process
            self.stop()
        return answer

    def ended(self) -> dict[str, Any]:
        """Return that the process ended by itself, and what it said last."""
        assert self.process is not None
        code = self.process.wait()
        self.stop()
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return {"failed": f"the process ended with {code}: {lines[-1].strip() if lines else 'it said nothing'}"[:400]}
