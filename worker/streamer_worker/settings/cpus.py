"""The number of CPUs that this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

_ROOT = Path("/")


def usable_cpus(root: Path = _ROOT) -> int:
    """Return the number of CPUs in the process's affinity mask, limited by its cgroup quotas.

    Reads cgroups of version 1 and 2. A quota is rounded up to whole CPUs. `root` is the root of
    the file system.
    """
    available = len(os.sched_getaffinity(0))
    return max(1, min([available, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas of this process's cgroups and of their parents, in CPUs."""
    for folder in _cgroups(root):
        # Without a quota the file is missing or holds no number ("max").
        with suppress(OSError, ValueError):
            limit, period = (folder / "cpu.max").read_text().split()
            yield int(limit) / int(period)
        with suppress(OSError, ValueError):
            limit = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
            if int(limit) > 0:
                yield int(limit) / int(period)


def _cgroups(root: Path) -> Iterator[Path]:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mounted = root / "sys/fs/cgroup"
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        path = PurePosixPath(name.lstrip("/"))
        if not controllers:  # version 2
            bases = [mounted, mounted / "unified"]
        elif "cpu" in controllers.split(","):
            bases = [mounted / "cpu", mounted / controllers]
        else:
            continue
        # In a container the path is the host's. Only its last part is mounted, or nothing.
        for cgroup in (path, *path.parents):
            yield from (base / cgroup for base in bases)
