"""What a forked child keeps of the worker's event loop."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamer_worker.execution.processes.forks import _detach

FORKS_IN_C = """
import ctypes, os
from streamer_worker.execution.processes.forks import ForkBoundary

with ForkBoundary():
    child = ctypes.PyDLL(None).fork()
print("after the block:", os.waitpid(child, 0)[1])
"""


@pytest.fixture
def loop() -> Iterator[Any]:
    new_loop: Any = asyncio.SelectorEventLoop()
    yield new_loop
    new_loop.close()


def test_the_descriptors_of_a_detached_loop_are_replaced(loop: Any) -> None:
    """Those of its connections and its selector become /dev/null. Others are unchanged."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.add_reader(ours, int)
        selector = loop._selector.fileno()
        _detach(lambda: loop)
        for descriptor in (ours.fileno(), selector):
            assert Path(f"/proc/self/fd/{descriptor}").readlink() == Path(os.devnull)
        assert "socket" in str(Path(f"/proc/self/fd/{theirs.fileno()}").readlink())
        loop.remove_reader(ours)
        loop.add_reader(ours, int)


def test_a_collected_generator_does_not_end_the_child(loop: Any) -> None:
    """Only a step that is scheduled by other code ends it."""
    _detach(lambda: loop)
    loop.call_soon_threadsafe(loop.create_task, None)


def test_a_closed_or_collected_loop_is_ignored(loop: Any) -> None:
    """Detaching it does nothing."""
    loop.close()
    _detach(lambda: loop)
    _detach(lambda: None)


def test_a_child_that_c_code_has_forked_ends_too() -> None:
    """Python's hooks do not run in it. Forked in a process with one thread: in another one the
    child may wait for the interpreter's lock, which a thread that it does not have asked for.
    """
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", FORKS_IN_C],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "after the block: 0\n"
