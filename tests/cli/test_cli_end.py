"""How a process ends whose job is done."""

import subprocess
import sys

PROGRAM = """
import atexit, gc
from dpo_lab.cli.jobs import end_at_once

atexit.register(lambda: print(gc.get_freeze_count() > len(gc.get_objects())))
for job in range(2):
    end_at_once()
print(gc.get_freeze_count())
"""


def test_the_end_of_python_collects_nothing_of_what_was_imported_and_the_run_itself_does() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True"]  # while it runs nothing is left out; at its end, before its last collections, all
