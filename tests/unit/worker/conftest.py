"""Fixtures of the worker's tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from trio.testing import MockClock

from streamer_worker.own_logger import set_logger_factory
from unit.worker.benches import PollBench
from unit.worker.harness import World, make_world


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Run on both; trio's time jumps to the next deadline whenever all tasks wait."""
    if request.param == "trio":
        return "trio", {"clock": MockClock(autojump_threshold=0)}
    return "asyncio", {}


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def bench(world: World) -> Iterator[PollBench]:
    """Give a poller with ten slots."""
    made = PollBench(world)
    yield made
    made.close()


@pytest.fixture
def narrow(world: World) -> Iterator[PollBench]:
    """Give a poller with two slots."""
    made = PollBench(world, slots=2)
    yield made
    made.close()


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """Put the process's logging back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    set_logger_factory(None)
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).setLevel(logging.NOTSET)
        logging.getLogger(name).filters.clear()
