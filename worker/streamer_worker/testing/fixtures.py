"""Pytest fixtures: `pytest_plugins = ["streamer_worker.testing.fixtures"]` in conftest.py.

`streamer` runs a worker in memory with the installed handlers. Override the fixture
`streamer_handlers` to run other handlers, and `streamer_options` to pass the states of groups.
Tests that use it need not be async.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from streamer_store import AsyncRequest
from streamer_worker.handlers.definition import Handler, HandlerGroup
from streamer_worker.handlers.registry import load_handlers
from streamer_worker.testing.arguments import Payload
from streamer_worker.testing.workers import Delivered, MemoryWorker, memory_worker

__all__ = ["Streamer", "streamer", "streamer_handlers", "streamer_options"]

Result = TypeVar("Result")


class Streamer:
    """A MemoryWorker for tests that are not async. `worker` is the MemoryWorker itself.

    The worker runs on an event loop in a thread of its own. Call the methods from the thread of
    the test.
    """

    def __init__(self, worker: MemoryWorker, portal: BlockingPortal) -> None:
        self.worker = worker
        self._portal = portal

    @property
    def delivered(self) -> list[Delivered]:
        """The messages that were pushed to connections, oldest first."""
        return self.worker.delivered

    def run(self, action: str, payload: Payload | None = None, **fields: Any) -> AsyncRequest:
        """Enqueue a request, wait for its end, and return it, as MemoryWorker.run does."""
        return self.call(self.worker.run, action, payload, **fields)

    def call(self, function: Callable[..., Awaitable[Result]], *args: Any, **named: Any) -> Result:
        """Call a coroutine function on the worker's event loop and return its result, for example
        `streamer.call(streamer.worker.connect)`. Raises what the function raises.
        """

        async def called() -> Result:
            return await function(*args, **named)

        return self._portal.call(called)


@pytest.fixture
def streamer_handlers() -> Iterable[Handler | HandlerGroup[Any]]:
    """Return the handlers that `streamer` runs: the installed ones, unless overridden."""
    return list(load_handlers().values())


@pytest.fixture
def streamer_options() -> Mapping[str, Any]:
    """Return arguments of memory_worker for `streamer`, for example
    `{"states": {group: FakeDatabase()}}`. Empty, unless overridden.
    """
    return {}


@pytest.fixture
def streamer(
    streamer_handlers: Iterable[Handler | HandlerGroup[Any]], streamer_options: Mapping[str, Any]
) -> Iterator[Streamer]:
    """Run a worker on stores in memory for one test. It drains and stops at the end of the test."""
    worker_context = memory_worker(*streamer_handlers, **streamer_options)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(worker_context) as worker,
    ):
        yield Streamer(worker, portal)
