"""A CPU for the process that is measured, so that the database does not disturb it.

In production the database runs elsewhere. Here it is a program in Java with many threads, which
takes turns with the consumer on the same CPUs: the consumer's caches are cold each time, and its
CPU per request varies by a third.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def spare_cpu() -> Iterator[int | None]:
    """Keep one CPU free of this process, its children and theirs, and give its number.

    Gives None on a machine with one CPU. At the end they may use all CPUs again.
    """
    cpus = os.sched_getaffinity(0)
    if len(cpus) == 1:
        yield None
        return
    spare = max(cpus)
    _move_all(cpus - {spare})
    try:
        yield spare
    finally:
        _move_all(cpus)


def move(pid: int, cpus: set[int]) -> None:
    """Run all threads of a process on these CPUs. A thread that has ended is no error."""
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                os.sched_setaffinity(int(thread.name), cpus)


def _move_all(cpus: set[int]) -> None:
    for pid in _family(os.getpid()):
        move(pid, cpus)


def _family(pid: int) -> Iterator[int]:
    """Yield a process, its children, and theirs."""
    yield pid
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and _parent(process) == pid:
            yield from _family(int(process.name))


def _parent(process: Path) -> int | None:
    try:
        status = (process / "stat").read_text()
    except OSError:
        return None  # it has ended
    return int(status.rpartition(")")[2].split()[1])
