"""What a forked child keeps of the worker's event loop."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamer_worker.execution.processes.forks import _detach


@pytest.fixture
def loop() -> Iterator[Any]:
    made: Any = asyncio.SelectorEventLoop()
    yield made
    made.close()


def test_the_descriptors_of_a_detached_loop_lead_nowhere(loop: Any) -> None:
    """Its connections and its selector; their numbers stay taken, and others are not touched."""
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


def test_a_generator_that_is_collected_does_not_ask_for_a_step(loop: Any) -> None:
    """Only what does ends the child."""
    _detach(lambda: loop)
    loop.call_soon_threadsafe(loop.create_task, None)


def test_a_loop_that_is_gone_is_left_alone(loop: Any) -> None:
    """Closed or collected."""
    loop.close()
    _detach(lambda: loop)
    _detach(lambda: None)
