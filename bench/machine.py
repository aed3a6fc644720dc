"""The machine and the versions, without which figures mean nothing."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench import ROOT


def description() -> dict[str, str]:
    """Return the date, the machine, its load, and the versions of what ran."""
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": f"{len(os.sched_getaffinity(0))} x {_cpu_model()}",
        "memory": _memory(),
        "load": f"{load} (1, 5, 15 minutes)",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "aiobotocore": version("aiobotocore"),
    }


def _commit() -> str:
    ended = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.stdout.strip() or "unknown"


def _cpu_model() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _memory() -> str:
    found = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return f"{int(found[1]) / 1e6:.1f} GB" if found else "unknown"
