"""Pytest fixtures: `pytest_plugins = ["streamer_worker.testing.fixtures"]` in conftest.py.

`streamer` is a worker in memory with the handlers that are installed; override the fixture
`streamer_handlers` to name others. Its tests need not be async.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from streamer_store import AsyncRequest
from streamer_worker.handlers.definition import Handler, HandlerGroup
from streamer_worker.handlers.registry import load_handlers
from streamer_worker.testing.workers import Delivered, MemoryWorker, memory_worker

Result = TypeVar("Result")


class Streamer:
    """A MemoryWorker for tests that are not async."""

    def __init__(self, worker: MemoryWorker, portal: BlockingPortal) -> None:
        self.worker = worker
        self._portal = portal

    @property
    def delivered(self) -> list[Delivered]:
        """What was pushed to connections until now."""
        return self.worker.delivered

    def run(
        self, action: str, payload: Mapping[str, Any] | None = None, **fields: Any
    ) -> AsyncRequest:
        """As MemoryWorker.run."""
        return self.call(self.worker.run, action, payload, **fields)

    def call(self, function: Callable[..., Awaitable[Result]], *args: Any, **named: Any) -> Result:
        """Call any coroutine function in the worker's loop, for example
        `streamer.call(streamer.worker.connect)`.
        """

        async def called() -> Result:
            return await function(*args, **named)

        return self._portal.call(called)


@pytest.fixture
def streamer_handlers() -> Iterable[Handler | HandlerGroup[Any]]:
    """What the worker of `streamer` runs; unless overridden, the handlers that are installed."""
    return list(load_handlers().values())


@pytest.fixture
def streamer(
    streamer_handlers: Iterable[Handler | HandlerGroup[Any]],
) -> Iterator[Streamer]:
    """Give a worker on stores in memory; it has drained and ended when the test ends."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(memory_worker(*streamer_handlers)) as worker,
    ):
        yield Streamer(worker, portal)
