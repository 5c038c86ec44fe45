"""Parts that resume after a kill: what each batch of rows gave is kept on disk until the artifact is finished."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpo_lab.own_files import make_own
from dpo_lab.progress import part, say

KEPT = "kept"  # a directory of the unfinished artifact

Keep = Callable[[Sequence[int], Callable[[], Any]], Any]
"""Given a batch's rows and a function that makes its result (plain data), returns the result, kept before or made now."""


def make_now(rows: Sequence[int], make: Callable[[], Any]) -> Any:
    """Return what a batch gives, keeping nothing.

    >>> make_now([0, 1], lambda: ["yes", "no"])
    ['yes', 'no']
    """
    return make()


@contextmanager
def kept_part(
    name: str, total: int, directory: Path | None, rows: str = "prompts", tokens_in: Callable[[Any], int] = lambda result: 0
) -> Iterator[Keep]:
    """Show a part's progress while the block runs, and keep the result of each of its batches.

    A result is found again by the rows of its batch alone: what else it depends on is covered by the id of the artifact,
    or stands in `name`. Only results are kept that are the same whichever batches were made before.

    Args:
        name: names the part on the screen, and its file: no two parts of an artifact share one.
        total: rows of all batches.
        directory: of the artifact, made with `Plan.make(resume=True)`; `remove_kept` clears it. None keeps nothing.
        rows: what the rows are called.
        tokens_in: how many tokens the result of a batch has; their number per second is shown.
    """
    path = directory and directory / KEPT / f"{name.replace(' ', '_')}.jsonl"
    offsets = _read(path) if path else {}
    if offsets:
        say(f"  resuming {name}: {sum(map(len, offsets))} of {total} {rows} done")

    began, tokens = time.monotonic(), 0
    kept_at = began
    with part(name, total) as shown:

        def keep(batch: Sequence[int], make: Callable[[], Any]) -> Any:
            nonlocal tokens, kept_at
            key = tuple(batch)
            resumed = key in offsets
            result = _result_at(path, offsets.pop(key)) if path and resumed else make()
            if path and not resumed:
                now = time.monotonic()
                _append(path, [key, result, {"seconds": round(now - kept_at, 3)}])
                kept_at = now
            tokens += 0 if resumed else tokens_in(result)
            speed = f"{tokens / max(time.monotonic() - began, 1e-9):,.0f} tokens/s" if tokens else ""
            shown.advance(len(key), speed, resumed=resumed)
            return result

        yield keep


def seconds_kept(directory: Path) -> float:
    """Return how long earlier processes took for what the parts of an artifact have kept; what they lost is not counted."""
    seconds = 0.0
    for path in (directory / KEPT).glob("*.jsonl"):
        with path.open("rb") as file:
            for line in file:
                if line != _sealed(line[17:-1]):
                    break  # `_read` cuts the file here
                _, stated, of_line = line.rpartition(b'{"seconds": ')  # earlier versions kept none
                seconds += float(of_line.rstrip(b"}]\n")) if stated else 0.0
    return seconds


def remove_kept(directory: Path) -> None:
    """Remove what an artifact's parts have kept: nothing of it belongs to the finished artifact."""
    shutil.rmtree(directory / KEPT, ignore_errors=True)


def _append(path: Path, line: Any) -> None:
    """Add a line that outlives a kill, and a power cut; either may leave its beginning alone, which `_read` cuts."""
    path.parent.mkdir(exist_ok=True)
    make_own(path)
    with path.open("ab") as file:
        file.write(_sealed(json.dumps(line).encode()))
        file.flush()
        os.fsync(file.fileno())


def _sealed(text: bytes) -> bytes:
    """Return a line of the file: a digest of a text, and the text."""
    return hashlib.sha256(text).hexdigest()[:16].encode() + b" " + text + b"\n"


def _result_at(path: Path, offset: int) -> Any:
    """Return the result of the line that begins at a byte of the file; only one is held at a time."""
    with path.open("rb") as file:
        file.seek(offset)
        return json.loads(file.readline()[17:])[1]


def _read(path: Path) -> dict[tuple[int, ...], int]:
    """Return where the line of each kept batch begins, by its rows.

    A line that was cut or damaged, and all after it, is removed from the file.
    """
    offsets: dict[tuple[int, ...], int] = {}
    if not path.exists():
        return offsets
    whole = 0
    make_own(path)
    with path.open("rb+") as file:
        for number, line in enumerate(file, start=1):
            text = line[17:-1]
            if line != _sealed(text):
                if line.endswith(b"\n"):  # a kill cuts the end of a line
                    say(f"  {path} is damaged from line {number} on; what stood there is made again")
                break
            offsets[tuple(json.loads(text)[0])] = whole
            whole += len(line)
        file.truncate(whole)
    return offsets
