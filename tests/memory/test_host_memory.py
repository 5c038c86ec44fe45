"""What the host has for a process is what its memory and every control group around the process leave."""

from pathlib import Path

import pytest

from dpo_lab.memory.host import give_back, host_memory

VERSIONS = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def limited(group: Path, version: int, limit: str, used: int, cache: int = 0) -> None:
    group.mkdir(parents=True, exist_ok=True)
    files, (limit_file, used_file, cached) = group, VERSIONS[version]
    (files / limit_file).write_text(f"{limit}\n")
    (files / used_file).write_text(f"{used}\n")
    (files / "memory.stat").write_text(f"anon 5\n{cached} {cache}\nhierarchical_memory_limit 77\n")


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Return a directory with proc/ of a process in no group, 4000 kB available."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 4000 kB\n")
    return tmp_path


def found(host: Path, own: str) -> float:
    (host / "proc/self/cgroup").write_text(own)
    return host_memory(host / "proc", host / "cgroup")


def test_without_groups_or_limits_it_is_what_is_available(host: Path) -> None:
    assert host_memory(host / "proc", host / "cgroup") == 4000 * 1024
    limited(host / "cgroup/a", 2, "max", 1_000_000)
    assert found(host, "0::/a\n") == 4000 * 1024
    assert host_memory(host / "nothing", host / "cgroup") == float("inf")


@pytest.mark.parametrize(
    ("version", "root", "own"),
    [
        (2, "cgroup", "0::/user/job/step\n"),
        (2, "cgroup/unified", "3:cpu:/\n0::/user/job/step\n"),
        (1, "cgroup/memory", "4:memory:/user/job/step\n3:cpu:/elsewhere\n0::/\n"),
        (1, "cgroup/memory", "4:cpu,memory:/user/job/step\n"),
    ],
)
def test_the_narrowest_limit_on_the_path_counts_without_pages_of_files(host: Path, version: int, root: str, own: str) -> None:
    limited(host / root / "user", version, "3900000", 900_000)
    limited(host / root / "user/job", version, "3000000", 1_000_000, cache=200_000)
    limited(host / root / "user/job/step", version, "max" if version == 2 else "9223372036854771712", 500_000)
    limited(host / root / "user/other", version, "1000", 0)  # not around this process
    assert found(host, own) == 2_200_000
    limited(host / root / "user/job/step", version, "600000", 500_000)
    assert found(host, own) == 100_000


def test_a_container_that_sees_the_hosts_path_has_the_limit_of_its_own_root(host: Path) -> None:
    limited(host / "cgroup/memory", 1, "3000000", 1_000_000)
    assert found(host, "4:memory:/docker/0f3a\n") == 2_000_000
    assert found(host, "4:memory:/../../system\n") == 2_000_000


@pytest.mark.parametrize("used", [False, True])
def test_what_torch_keeps_of_a_gpu_is_given_back_too_where_one_is_used(monkeypatch: pytest.MonkeyPatch, used: bool) -> None:
    emptied: list[bool] = []
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: used)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: emptied.append(True))
    give_back()
    assert bool(emptied) == used
