"""What a job of a sweep leaves in the sweep's directory, in whichever process it runs: its record and its log."""

import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from dpo_lab.cli.arguments import CommandLine
from dpo_lab.cli.composed import job_words, task_overrides
from dpo_lab.cli.session import Job
from dpo_lab.comparison.jobs import JobRecord


@dataclass
class JobOnDisk:
    """A job that is under way."""

    job: Job
    record: JobRecord
    sweep: Path
    log: TextIO

    def write(self, **changes: Any) -> None:
        """Write what is known of it now."""
        known = {"directory": self.job.directory, "figure": self.job.figure, "message": self.job.message}
        self.record = replace(self.record, **{**known, **changes}).write(self.sweep)

    def tell_of(self, error: Exception) -> None:
        """Write the traceback of what ends it into its log."""
        self.log.write("".join(traceback.format_exception(error)))
        self.log.flush()


@contextmanager
def recorded(config: Any, line: CommandLine, job: Job) -> Iterator[JobOnDisk]:
    """Keep the record and the log of a job of a sweep while the block runs it."""
    from dpo_lab.progress import copied_to, is_quiet

    sweep, number = Path(config.hydra.sweep.dir), int(config.hydra.job.num) + 1
    if not is_quiet():
        sys.stdout.write(f"\njob {number}: {job.overrides}\n")
        sys.stdout.flush()
    started = time.monotonic()
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    record = replace(JobRecord.begun(number, task_overrides(config), now), command=line.command(job_words(config, line)))
    record.write(sweep)
    with copied_to(record.log(sweep)) as log:
        log.write(f"{record.command}\n")
        kept = JobOnDisk(job, record, sweep, log)
        try:
            yield kept
        finally:
            state = "stopped" if job.code is None else "failed" if job.code else job.ended
            kept.write(state=state, seconds=round(time.monotonic() - started, 3))
