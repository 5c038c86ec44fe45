"""The host's memory: how much of it this process can have, and giving back what it has no more use for."""

import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path

import torch

FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}
"""By version of control groups: limit and use of a group with all below it, and in memory.stat the pages of files that the system
takes back (kernel.org, admin-guide/cgroup-v1/memory and cgroup-v2)."""


def host_memory(proc: Path = Path("/proc"), mounted: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the bytes that programs can have, or what is left of the narrowest limit on the path of this process's group.

    Infinite where nothing says: nothing is refused there.

    Args:
        proc: where meminfo and self/cgroup are.
        mounted: where control groups are.
    """
    found = [float("inf")]
    if (meminfo := proc / "meminfo").is_file():
        lines = meminfo.read_text().splitlines()
        found += [float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min(found + [left_of(group, version) for group, version in groups(proc / "self/cgroup", mounted)])


def groups(own: Path, mounted: Path) -> Iterator[tuple[Path, int]]:
    """Yield the directories of the groups that a process is in, from its own to the root, with their version.

    In a container the root is often the container's own group while the path is the host's: then levels that are not there are
    skipped, and the root counts.
    """
    for line in own.read_text().splitlines() if own.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version = 1 if controllers else 2
        names = [part for part in Path(path).parts if part not in ("/", "..")]  # ..: seen from within a namespace below it
        for root in (mounted / "memory",) if version == 1 else (mounted, mounted / "unified"):
            group = root.joinpath(*names)
            yield from ((directory, version) for directory in (group, *group.parents) if directory.is_relative_to(root))


def left_of(group: Path, version: int) -> float:
    """Return what a group's limit leaves; infinite where it has none, or where no group is."""
    limit, used, reclaimed = FILES[version]
    if not (group / limit).is_file() or not (text := (group / limit).read_text().strip()).isdigit():
        return float("inf")
    statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return float(text) - float((group / used).read_text()) + float(statistics.get(reclaimed, 0))


def give_back() -> None:
    """Give back what nothing uses: objects that only refer to each other, as Lightning's do, and free pages of heap and GPU.

    glibc keeps freed blocks below 32 MiB for the next ones; after a training of 57 M weights that was 500 MB. torch keeps all
    of a GPU's for itself, and the next part of a round may be another process, an inference server for instance.
    """
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc alone has it
        trim(0)
