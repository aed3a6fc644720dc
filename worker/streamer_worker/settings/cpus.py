"""How many CPUs this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

_ROOT = Path("/")


def usable_cpus(root: Path = _ROOT) -> int:
    """Return the number of CPUs that the process may run on, or fewer if a cgroup's quota, of
    version 1 or 2, allows less. Part of a CPU counts as one.
    """
    available = len(os.sched_getaffinity(0))
    return max(1, min([available, *(math.ceil(each) for each in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas of our cgroups and of those above them, in CPUs."""
    for folder in _cgroups(root):
        # Neither file is there, or is a number, where there is no quota.
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
        # In a container the path is the host's, and only its end, or nothing, is mounted.
        for each in (path, *path.parents):
            yield from (base / each for base in bases)
