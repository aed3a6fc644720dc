"""The number of CPUs that the process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamer_worker.settings.cpus import usable_cpus


@pytest.fixture(autouse=True)
def _eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))


V2 = "0::/system.slice/worker.service\n"
V1 = "9:name=systemd:/\n4:cpu,cpuacct:/docker/abc\n"
GROUP = "sys/fs/cgroup"


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 8),
        ({"proc/self/cgroup": V2}, 8),
        ({"proc/self/cgroup": V2, f"{GROUP}/cpu.max": "max 100000"}, 8),
        (
            {
                "proc/self/cgroup": V2,
                f"{GROUP}/system.slice/worker.service/cpu.max": "200000 100000\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": V2,
                f"{GROUP}/system.slice/cpu.max": "150000 100000\n",
                f"{GROUP}/system.slice/worker.service/cpu.max": "max 100000\n",
            },
            2,
        ),
        ({"proc/self/cgroup": "0::/\n", f"{GROUP}/cpu.max": "50000 100000"}, 1),
        ({"proc/self/cgroup": "0::/\n", f"{GROUP}/cpu.max": "6400000 100000"}, 8),
        ({"proc/self/cgroup": "0::/../other\n", f"{GROUP}/cpu.max": "300000 100000"}, 3),
        (
            {
                "proc/self/cgroup": V1,
                f"{GROUP}/cpu/cpu.cfs_quota_us": "400000",
                f"{GROUP}/cpu/cpu.cfs_period_us": "100000",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": V1,
                f"{GROUP}/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "250000",
                f"{GROUP}/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": V1,
                f"{GROUP}/cpu/cpu.cfs_quota_us": "-1",
                f"{GROUP}/cpu/cpu.cfs_period_us": "100000",
            },
            8,
        ),
        ({"proc/self/cgroup": "nonsense\n", f"{GROUP}/cpu.max": "nonsense"}, 8),
    ],
)
def test_the_quota_of_a_cgroup_counts(tmp_path: Path, files: dict[str, str], count: int) -> None:
    """Quotas of cgroups 1 and 2, at any level, limit the number, rounded up, to between 1 and 8."""
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert usable_cpus(tmp_path) == count


def test_this_machine_has_at_least_one() -> None:
    """The cgroup files of this machine are read without an error."""
    assert 1 <= usable_cpus() <= 8
