"""The CPU that a measured process has to itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.cpus import move, spare_cpu


@contextmanager
def child() -> Iterator[int]:
    """Run a process that waits, and give its id."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid


def test_nothing_else_runs_on_the_spare_cpu() -> None:
    """Children that run already leave it, those that start later never get it."""
    before = os.sched_getaffinity(0)
    with child() as earlier:
        with spare_cpu() as spare, child() as later:
            if spare is None:
                assert len(before) == 1
                return
            assert spare in before
            for process in (0, earlier, later):
                assert os.sched_getaffinity(process) == before - {spare}
            move(later, {spare})
            assert os.sched_getaffinity(later) == {spare}
        assert os.sched_getaffinity(0) == os.sched_getaffinity(earlier) == before


def test_there_is_none_on_a_machine_with_one_cpu() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        with spare_cpu() as spare:
            assert spare is None
    finally:
        os.sched_setaffinity(0, before)
